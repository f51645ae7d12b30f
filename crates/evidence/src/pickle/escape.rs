//! Decodes the strings of protocol 0 as Python does. They are lines of text in which characters may be
//! escaped, so `'\x6fs'` is the module `os`; read literally, it would be a name that nobody knows.
//!
//! ```text
//! opcode    argument      decoded by Python with               here
//! STRING    'a\x6f\157'   codecs.escape_decode, without quotes  decode_quoted
//! UNICODE   a\u006f       the codec raw-unicode-escape          decode_unicode
//! ```
//!
//! The names of `GLOBAL` and `INST` are lines without escapes. What Python would refuse is an error.

/// Decodes the argument of STRING: a string in quotes, with the escapes of a Python bytes literal.
pub(super) fn decode_quoted(line: &[u8]) -> Result<String, String> {
    // Old unpicklers ignore white space at the end; no unpickler needs it.
    let line = line.trim_ascii_end();
    let ([b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"']) = line else {
        return Err("a string has no quotes around it".to_owned());
    };
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            text.push(char::from(byte));
            continue;
        }
        let escape = rest.next().ok_or_else(|| "a string ends within an escape".to_owned())?;
        match escape {
            b'\\' | b'\'' | b'"' => text.push(char::from(escape)),
            b'a' => text.push('\x07'),
            b'b' => text.push('\x08'),
            b't' => text.push('\t'),
            b'n' => text.push('\n'),
            b'v' => text.push('\x0b'),
            b'f' => text.push('\x0c'),
            b'r' => text.push('\r'),
            // One to three octal digits; CPython keeps the lowest eight bits.
            b'0'..=b'7' => {
                let mut value = u32::from(escape - b'0');
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|next| (b'0'..=b'7').contains(next)) else {
                        break;
                    };
                    value = value * 8 + u32::from(digit - b'0');
                }
                text.push(char::from((value & 0xff) as u8));
            }
            b'x' => text.push(read_code_point(&mut rest, 2)?),
            // An unknown escape stays as it is, with its backslash.
            other => text.extend(['\\', char::from(other)]),
        }
    }
    Ok(text)
}

/// Decodes the argument of UNICODE: Latin-1 without quotes, in which only `\u` and `\U` are escapes.
pub(super) fn decode_unicode(line: &[u8]) -> Result<String, String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.iter().copied();
    while let Some(byte) = rest.next() {
        match (byte, byte == b'\\') {
            (byte, false) => text.push(char::from(byte)),
            (_, true) => match rest.next() {
                Some(b'u') => text.push(read_code_point(&mut rest, 4)?),
                Some(b'U') => text.push(read_code_point(&mut rest, 8)?),
                // The character after a backslash is passed over, so `\\u006f` has no escape.
                Some(other) => text.extend(['\\', char::from(other)]),
                None => text.push('\\'),
            },
        }
    }
    Ok(text)
}

/// Reads a code point of so many hexadecimal digits. Half of a surrogate pair, which Python accepts in a
/// string, is no character of any name and becomes the replacement character.
fn read_code_point(bytes: &mut impl Iterator<Item = u8>, digits: usize) -> Result<char, String> {
    let mut value = 0;
    for _ in 0..digits {
        let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let digit = digit.ok_or_else(|| format!("an escape has less than {digits} digits"))?;
        value = value << 4 | digit;
    }
    match value {
        0xd800..=0xdfff => Ok(char::REPLACEMENT_CHARACTER),
        _ => char::from_u32(value)
            .ok_or_else(|| "an escape is beyond the last character of Unicode".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_quoted_string_is_decoded_as_python_does() {
        // Each right side is what `codecs.escape_decode` of CPython 3.11 gives.
        for (line, text) in [
            (r"'os'", "os"),
            (r#""os""#, "os"),
            (r"'\x6fs'", "os"),
            (r"'\157s'", "os"),
            (r"'\x6F\163'", "os"),
            (r"'\0'", "\0"),
            (r"'\1577'", "o7"),
            (r"'\557'", "o"),
            (r"'a\\x6f'", r"a\x6f"),
            (r#"'\'\"\a\b\t\n\v\f\r'"#, "'\"\x07\x08\t\n\x0b\x0c\r"),
            (r"'\q\u006f'", r"\q\u006f"),
            ("'os' \r", "os"),
            ("''", ""),
        ] {
            assert_eq!(decode_quoted(line.as_bytes()).as_deref(), Ok(text), "{line}");
        }
        for line in ["os", "'", "'os", "'os\"", "", r"'\x6'", r"'\xg0'", r"'\'"] {
            assert!(decode_quoted(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_unicode_line_is_decoded_as_python_does() {
        // Each right side is what the codec raw-unicode-escape of CPython 3.11 gives.
        for (line, text) in [
            ("os", "os"),
            ("'os'", "'os'"),
            (r"\u006fs", "os"),
            (r"\U0000006fs", "os"),
            (r"\x6fs", r"\x6fs"),
            (r"\\u006f", r"\\u006f"),
            (r"\\\u006f", r"\\o"),
            ("os\\", "os\\"),
            (r"\ud800", "\u{fffd}"),
        ] {
            assert_eq!(decode_unicode(line.as_bytes()).as_deref(), Ok(text), "{line}");
        }
        assert_eq!(decode_unicode(&[0xe9]).as_deref(), Ok("é"));
        for line in [r"\u06f", r"\U110000", r"\Uffffffff"] {
            assert!(decode_unicode(line.as_bytes()).is_err(), "{line}");
        }
    }
}
