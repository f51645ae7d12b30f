//! Lines of text with marked parts. Everything is escaped when it is written, and long names get the
//! places where a browser may break them, so that no word is broken in its middle.

use std::fmt::{self, Display, Write as _};

use crate::Tone;

/// Words up to this length are never broken; longer ones only after a separator.
const LONGEST_WHOLE_WORD: usize = 22;
/// A run of letters and digits without separators may be broken after so many: a digest has 64, a commit
/// of git 40.
const LONGEST_RUN: usize = 40;

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextSpan {
    /// Plain text.
    Plain(String),
    /// A name, a path, a value: in a fixed-width font.
    Code(String),
    /// An explanation that may be passed over.
    Muted(String),
    /// Text that carries the line.
    Strong(String),
    /// A word in a coloured frame.
    Badge(Tone, String),
    /// A link to a file in the folder of the page.
    Link(String),
}

/// A line of text. Its parts are separated by spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextLine(Vec<TextSpan>);

impl TextLine {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of one name, path or value.
    pub fn code(text: impl Into<String>) -> Self {
        Self::new().with_code(text)
    }

    /// A line of one explanation.
    pub fn muted(text: impl Into<String>) -> Self {
        Self::new().with_muted(text)
    }

    /// A line with one word in a coloured frame.
    pub fn badge(tone: Tone, text: impl Into<String>) -> Self {
        Self(vec![TextSpan::Badge(tone, text.into())])
    }

    /// A line with one link to a file in the folder of the page.
    pub fn link(path: impl Into<String>) -> Self {
        Self(vec![TextSpan::Link(path.into())])
    }

    /// Adds plain text.
    #[must_use]
    pub fn with_plain(self, text: impl Into<String>) -> Self {
        self.with_span(TextSpan::Plain(text.into()))
    }

    /// Adds a name, a path or a value.
    #[must_use]
    pub fn with_code(self, text: impl Into<String>) -> Self {
        self.with_span(TextSpan::Code(text.into()))
    }

    /// Adds an explanation. An empty one adds nothing.
    #[must_use]
    pub fn with_muted(self, text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { self } else { self.with_span(TextSpan::Muted(text)) }
    }

    /// Adds text that carries the line.
    #[must_use]
    pub fn with_strong(self, text: impl Into<String>) -> Self {
        self.with_span(TextSpan::Strong(text.into()))
    }

    /// Adds a part.
    #[must_use]
    pub fn with_span(mut self, span: TextSpan) -> Self {
        self.0.push(span);
        self
    }
}

impl From<&str> for TextLine {
    fn from(text: &str) -> Self {
        Self::new().with_plain(text)
    }
}

impl From<String> for TextLine {
    fn from(text: String) -> Self {
        Self::new().with_plain(text)
    }
}

impl Display for TextLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, span) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char(' ')?;
            }
            match span {
                TextSpan::Plain(text) => write!(f, "{}", Breakable(text))?,
                TextSpan::Code(text) => write!(f, "<code>{}</code>", Breakable(text))?,
                TextSpan::Muted(text) => {
                    write!(f, "<span class=\"muted\">{}</span>", Breakable(text))?;
                }
                TextSpan::Strong(text) => write!(f, "<strong>{}</strong>", Breakable(text))?,
                TextSpan::Badge(tone, text) => {
                    write!(f, "<span class=\"badge {}\">{}</span>", tone.class(), Escaped(text))?;
                }
                // Only a path in the page's folder becomes a link, whatever the caller was given.
                TextSpan::Link(path) if is_local_path(path) => {
                    write!(f, "<a href=\"{}\">{}</a>", Escaped(path), Breakable(path))?;
                }
                TextSpan::Link(path) => write!(f, "<code>{}</code>", Breakable(path))?,
            }
        }
        Ok(())
    }
}

// What it writes is HTML, in which every text is escaped.
impl askama::filters::HtmlSafe for TextLine {}

/// A text, escaped for HTML content and attribute values.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_escaped(f, c))
    }
}

impl askama::filters::HtmlSafe for Escaped<'_> {}

/// A text, escaped for HTML content, with `<wbr>` where a long word may be broken.
struct Breakable<'a>(&'a str);

impl Display for Breakable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.0.split(' ');
        if let Some(first) = words.next() {
            write_word(f, first)?;
        }
        for word in words {
            f.write_char(' ')?;
            write_word(f, word)?;
        }
        Ok(())
    }
}

/// Writes a word, escaped, with the places where it may be broken.
fn write_word(f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
    if word.chars().count() <= LONGEST_WHOLE_WORD {
        // Browsers break after hyphens by themselves: `--` and `inside` on two lines.
        return match word.contains('-') {
            true => write!(f, "<span class=\"whole\">{}</span>", Escaped(word)),
            false => write!(f, "{}", Escaped(word)),
        };
    }
    let mut is_after_separator = false;
    let mut run = 0;
    let mut letters = word.chars().peekable();
    while let Some(c) = letters.next() {
        if run == LONGEST_RUN {
            f.write_str("<wbr>")?;
            run = 0;
        }
        write_escaped(f, c)?;
        run += 1;
        // A version (`v0.9.1`) stays whole, and separators in a row stay together.
        let is_version = matches!(c, '.' | ',') && letters.peek().is_some_and(char::is_ascii_digit);
        let is_inner = letters.peek().is_none_or(|next| is_separator(*next));
        if is_separator(c) && !is_version && !is_inner && !is_after_separator {
            f.write_str("<wbr>")?;
            run = 0;
        }
        is_after_separator = is_separator(c);
    }
    Ok(())
}

/// Whether a long word may be broken after this character.
fn is_separator(c: char) -> bool {
    matches!(c, '/' | ':' | '@' | '.' | ',' | '=' | '_' | '-' | '?' | '&' | ';')
}

/// Writes a character, escaped.
fn write_escaped(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\'' => f.write_str("&#39;"),
        // Characters that reverse the reading direction can make a name look like another one
        // ("Trojan Source", CVE-2021-42574).
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}'),
        // Files quoted on a page keep their lines.
        '\n' => f.write_char('\n'),
        c if c.is_control() => f.write_char(' '),
        c => f.write_char(c),
    }
}

/// A number with its noun: `1 workload`, `8 workloads`, `2 Ingresses`, `3 policies`.
pub fn format_count(count: usize, noun: &str) -> String {
    let is_after_vowel = |stem: &str| stem.ends_with(['a', 'e', 'i', 'o', 'u']);
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !is_after_vowel(stem) => format!("{count} {stem}ies"),
        _ if noun.ends_with('s') => format!("{count} {noun}es"),
        _ => format!("{count} {noun}s"),
    }
}

/// Whether a path leads to a file in the folder of the page, without any URL encoding.
fn is_local_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    !path.is_empty()
        && path
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_stays_text() {
        let hostile = "<script>\"a\"&'b'\u{202e}\t";
        let escaped = "&lt;script&gt;&quot;a&quot;&amp;&#39;b&#39;\u{fffd} ";
        assert_eq!(Escaped(hostile).to_string(), escaped);
        assert_eq!(TextLine::from(hostile).to_string(), escaped);
        for line in [
            TextLine::code(hostile),
            TextLine::muted(hostile),
            TextLine::badge(Tone::Bad, hostile),
            TextLine::link(hostile),
            TextLine::new().with_strong(hostile),
        ] {
            assert!(!line.to_string().contains("<script"), "{line}");
        }
    }

    #[test]
    fn a_count_has_its_plural() {
        for (count, noun, text) in [
            (1, "workload", "1 workload"),
            (0, "workload", "0 workloads"),
            (2, "Ingress", "2 Ingresses"),
            (3, "NetworkPolicy", "3 NetworkPolicies"),
            (4, "key", "4 keys"),
        ] {
            assert_eq!(format_count(count, noun), text);
        }
    }

    #[test]
    fn a_link_leads_to_a_file_beside_the_page_only() {
        assert_eq!(
            TextLine::link("sboms/a_1.json").to_string(),
            "<a href=\"sboms/a_1.json\">sboms/a_1.json</a>"
        );
        for path in ["javascript:alert(1)", "//x/y", "https://x", "../x", "a b", "", "/etc/x"] {
            assert!(!TextLine::link(path).to_string().contains("href"), "{path}");
        }
    }

    #[test]
    fn long_names_break_at_their_separators_and_short_words_nowhere() {
        assert_eq!(TextLine::code("HF_HUB_OFFLINE").to_string(), "<code>HF_HUB_OFFLINE</code>");
        assert_eq!(
            TextLine::from("see ghcr.io/maker/model:1.0 now").to_string(),
            "see ghcr.<wbr>io/<wbr>maker/<wbr>model:<wbr>1.0 now"
        );
        assert_eq!(
            TextLine::from("a".repeat(64)).to_string(),
            format!("{}<wbr>{}", "a".repeat(40), "a".repeat(24))
        );
        assert_eq!(
            TextLine::from("add --inside x").to_string(),
            "add <span class=\"whole\">--inside</span> x"
        );
    }
}
