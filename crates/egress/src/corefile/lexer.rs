//! Splits a Corefile into tokens with their positions, as caddyfile/lexer.go of coredns/caddy does:
//! words are separated by white space, in quotes where they contain some; comments are left out.

/// A word of a Corefile, or a brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CorefileToken {
    /// The word without its quotes.
    pub(super) text: String,
    /// Its first byte in the file, with the quote.
    pub(super) start: usize,
    /// The byte behind its last, with the quote.
    pub(super) end: usize,
    /// The line that it starts on, counted from 1.
    pub(super) line: usize,
    /// The line that it ends on: quoted text may have several lines.
    pub(super) last_line: usize,
}

/// The tokens of a Corefile. It never fails: quotes that are not closed end with the file, as in Caddy.
pub(super) fn split_tokens(text: &str) -> Vec<CorefileToken> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut word: Option<CorefileToken> = None;
    let mut is_comment = false;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if c.is_whitespace() || (at == 0 && c == '\u{feff}') {
            // A carriage return alone separates no words; Caddy's lexer skips it.
            if c != '\r' {
                tokens.extend(word.take());
            }
            if c == '\n' {
                line += 1;
                is_comment = false;
            }
            continue;
        }
        // A # begins a comment wherever it is, also in the midst of a word.
        is_comment |= c == '#';
        if is_comment {
            continue;
        }
        let end = at + c.len_utf8();
        match &mut word {
            Some(word) => {
                word.text.push(c);
                word.end = end;
            }
            None if c == '"' => {
                let mut quoted =
                    CorefileToken { text: String::new(), start: at, end, line, last_line: line };
                let mut is_escaped = false;
                for (at, c) in characters.by_ref() {
                    quoted.end = at + c.len_utf8();
                    line += usize::from(c == '\n');
                    match c {
                        '\\' if !is_escaped => {
                            is_escaped = true;
                            continue;
                        }
                        '"' if !is_escaped => break,
                        // An escaped quote loses its backslash; all other backslashes stay.
                        '"' => {}
                        _ if is_escaped => quoted.text.push('\\'),
                        _ => {}
                    }
                    is_escaped = false;
                    quoted.text.push(c);
                }
                quoted.last_line = line;
                tokens.push(quoted);
            }
            None => {
                word =
                    Some(CorefileToken { text: c.into(), start: at, end, line, last_line: line });
            }
        }
    }
    tokens.extend(word);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_coredns_parts_them() {
        let words = |text| split_tokens(text).into_iter().map(|t| t.text).collect::<Vec<_>>();
        assert_eq!(words("a b#c d\n\t e"), ["a", "b", "e"]);
        assert_eq!(
            words("log . \"{remote} \\\"{name}\\\"\" x"),
            ["log", ".", "{remote} \"{name}\"", "x"]
        );
        assert_eq!(words("a\r\nb"), ["a", "b"]);
        assert_eq!(words("# only a comment"), [""; 0]);
    }

    #[test]
    fn a_word_knows_where_it_stands() {
        let text = "ä {\n  \"x\ny\" z\n}";
        for token in split_tokens(text) {
            let written = &text[token.start..token.end];
            assert_eq!(written.trim_matches('"'), token.text);
        }
        assert_eq!(split_tokens(text).last().map(|token| token.line), Some(4));
    }
}
