//! Parses pickle opcodes and their arguments from a stream. Long arguments are skipped instead of
//! being kept in memory; only those matter that may be part of a name.

use std::io::{BufReader, Read};

pub(super) const PROTO: u8 = 0x80;
pub(super) const STOP: u8 = b'.';
pub(super) const GLOBAL: u8 = b'c';
pub(super) const INST: u8 = b'i';
pub(super) const STACK_GLOBAL: u8 = 0x93;
pub(super) const EXT1: u8 = 0x82;
pub(super) const EXT2: u8 = 0x83;
pub(super) const EXT4: u8 = 0x84;

/// The most bytes of a string that are kept: names in Python are shorter. A longer one is skipped,
/// and counts as unknown.
const LONGEST_TEXT: u64 = 1024;
/// The most bytes of a line, the form of numbers and strings in protocol 0.
const LONGEST_LINE: usize = 1 << 20;

/// The argument of an opcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// The opcode has none.
    None,
    /// A small number: a slot of the memo, the code of an extension, the protocol.
    Number(u64),
    /// A string that may be a name.
    Text(String),
    /// A module and a name in it.
    Two(String, String),
    /// Something that cannot be a name.
    Other,
}

/// Reads opcodes from a stream.
pub(super) struct Reader<R> {
    inner: BufReader<R>,
    /// The next byte, if [`Self::peek`] has read it already.
    ahead: Option<u8>,
    position: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { inner: BufReader::new(input), ahead: None, position: 0 }
    }

    /// The number of bytes that were consumed.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next byte without consuming it; `None` at the end.
    pub(super) fn peek(&mut self) -> Option<u8> {
        if self.ahead.is_none() {
            let mut byte = [0];
            self.inner.read_exact(&mut byte).ok()?;
            self.ahead = Some(byte[0]);
        }
        self.ahead
    }

    /// Reads the next opcode with its argument.
    pub(super) fn next(&mut self) -> Result<(u8, Argument), String> {
        let code = self.byte()?;
        let argument = match code {
            b'('
            | b'.'
            | b'0'
            | b'1'
            | b'2'
            | b'Q'
            | b'R'
            | b'N'
            | b'a'
            | b'b'
            | b'd'
            | b'}'
            | b'e'
            | b'l'
            | b']'
            | b'o'
            | b's'
            | b't'
            | b')'
            | b'u'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x94
            | 0x97
            | 0x98 => Argument::None,
            // FLOAT, INT, LONG and PERSID of protocol 0: text up to the end of the line.
            b'F' | b'I' | b'L' | b'P' => {
                self.line()?;
                Argument::Other
            }
            // STRING is quoted, UNICODE is not.
            b'S' | b'V' => Argument::Text(unquoted(&self.line()?)),
            b'g' | b'p' => {
                let line = self.line()?;
                Argument::Number(
                    line.trim()
                        .parse()
                        .map_err(|_| format!("{line:?} is not the number of a memo slot"))?,
                )
            }
            GLOBAL | INST => Argument::Two(self.line()?, self.line()?),
            PROTO | b'h' | b'q' | EXT1 => Argument::Number(self.number(1)?),
            EXT2 => Argument::Number(self.number(2)?),
            b'j' | b'r' | EXT4 => Argument::Number(self.number(4)?),
            // Numbers of a fixed size, and FRAME with the length of what follows.
            b'K' => self.skipped(1)?,
            b'M' => self.skipped(2)?,
            b'J' => self.skipped(4)?,
            b'G' | 0x95 => self.skipped(8)?,
            // Strings with their length in 1, 4 or 8 bytes.
            b'U' | 0x8c => self.text(1)?,
            b'T' | b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            // Bytes and long integers with their length in 1, 4 or 8 bytes.
            b'C' | 0x8a => self.long(1)?,
            b'B' | 0x8b => self.long(4)?,
            0x8e | 0x96 => self.long(8)?,
            code => return Err(format!("{code:#04x} is not an opcode")),
        };
        Ok((code, argument))
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or_else(|| "the file is truncated".to_owned())?;
        self.ahead = None;
        self.position += 1;
        Ok(byte)
    }

    /// Reads a little-endian number of that many bytes.
    fn number(&mut self, bytes: u32) -> Result<u64, String> {
        (0..bytes).try_fold(0, |number, place| Ok(number | u64::from(self.byte()?) << (8 * place)))
    }

    /// Reads up to the end of the line.
    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
                byte if line.len() < LONGEST_LINE => line.push(byte),
                _ => return Err(format!("a line is longer than {LONGEST_LINE} bytes")),
            }
        }
    }

    /// Reads a string whose length is in that many bytes.
    fn text(&mut self, bytes: u32) -> Result<Argument, String> {
        let length = self.number(bytes)?;
        if length > LONGEST_TEXT {
            return self.skipped(length);
        }
        let text: Vec<u8> = (0..length).map(|_| self.byte()).collect::<Result<_, _>>()?;
        Ok(Argument::Text(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Skips a value whose length is in that many bytes.
    fn long(&mut self, bytes: u32) -> Result<Argument, String> {
        let length = self.number(bytes)?;
        self.skipped(length)
    }

    /// Skips that many bytes.
    fn skipped(&mut self, length: u64) -> Result<Argument, String> {
        // A byte that was peeked at is one of them.
        let mut left = length;
        if left > 0 && self.ahead.take().is_some() {
            left -= 1;
        }
        let skipped = std::io::copy(&mut (&mut self.inner).take(left), &mut std::io::sink());
        match skipped {
            Ok(skipped) if skipped == left => {
                self.position += length;
                Ok(Argument::Other)
            }
            Ok(_) => Err("the file is truncated".to_owned()),
            Err(cause) => Err(cause.to_string()),
        }
    }
}

/// Whether an opcode calls a function or a method: REDUCE, BUILD (`__setstate__`), OBJ, INST,
/// NEWOBJ and NEWOBJ_EX.
pub(super) fn calls(code: u8) -> bool {
    matches!(code, b'R' | b'b' | b'o' | INST | 0x81 | 0x92)
}

/// Removes the quotes of a string of protocol 0. Escapes stay: a name has none, and a name with
/// them is judged as unknown.
fn unquoted(line: &str) -> String {
    let line = line.trim();
    let inner = ['\'', '"']
        .into_iter()
        .find_map(|quote| line.strip_prefix(quote).and_then(|line| line.strip_suffix(quote)));
    inner.unwrap_or(line).chars().take(LONGEST_TEXT as usize).collect()
}
