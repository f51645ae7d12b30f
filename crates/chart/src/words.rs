//! The words of a text, as image references are separated in arguments, scripts and settings.

/// The words of a text, each with its offset in bytes.
pub(crate) fn split_text_words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    text.split_inclusive(is_word_separator).filter_map(move |part| {
        let word = part.trim_end_matches(is_word_separator);
        let at = start;
        start += part.len();
        (!word.is_empty()).then_some((at, word))
    })
}

/// Whether a character separates words. Colon, slash, at sign and dot do not: they are part of
/// image references.
pub(crate) fn is_word_separator(letter: char) -> bool {
    matches!(
        letter,
        ' ' | '\n'
            | '\t'
            | '\r'
            | '"'
            | '\''
            | '`'
            | '='
            | ','
            | ';'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '<'
            | '>'
            | '|'
            | '&'
    ) || !letter.is_ascii() && letter.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_at_what_stands_around_references_and_keep_their_offset() {
        let words: Vec<_> = split_text_words("--x=a/b:1, [c@d]\n").collect();
        assert_eq!(words, [(0, "--x"), (4, "a/b:1"), (12, "c@d")]);
        assert_eq!(split_text_words(" = ").count(), 0);
    }
}
