//! Makes text that others wrote (servers, charts, files, names in archives) safe to print on a terminal
//! or in a log: characters that a terminal obeys are shown as escapes, addresses lose their passwords
//! and tokens, and long texts are shortened.
//!
//! Every sink of text for people calls this (`cli` for the terminal, its log and its tables), so that
//! those who make a message need not think of it. Pages have their own escaping (crate `html`).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::redact_urls;

/// The longest line of a message, in characters: an error of helm with a template's path fits well.
const LONGEST_LINE: usize = 2_000;
/// The most lines of a message. An error that lists hundreds of items says how many more there are.
const MOST_LINES: usize = 200;
/// The lines at the end of a message that is too long, where a program's last words are.
const LAST_LINES: usize = 20;
/// The longest excerpt of a document or a response that an error quotes, in characters.
const LONGEST_EXCERPT: usize = 120;
/// How much of a text is cleaned for an excerpt, in characters: an address that is cut before its `@`
/// would keep its password.
const EXCERPT_SOURCE: usize = 4096;

/// The text with everything that could control a terminal or mislead its reader shown as an escape
/// (`\u{1b}`): control characters, bidirectional overrides, invisible characters. Line breaks and tabs
/// stay. Addresses in it are without their secrets ([`redact_urls`]).
///
/// # Examples
///
/// ```
/// use gantry_types::foreign_text::clean_text;
///
/// assert_eq!(clean_text("nginx\u{1b}[2J:1"), "nginx\\u{1b}[2J:1");
/// assert_eq!(clean_text("GET https://me:pw@host/a"), "GET https://host/a");
/// ```
pub fn clean_text(text: &str) -> Cow<'_, str> {
    match text.contains("://") {
        true => Cow::Owned(escape_text(&redact_urls(text)).into_owned()),
        false => escape_text(text),
    }
}

/// As [`clean_text`], with addresses as they are: for a document that is itself the result.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    let is_kept = |character: char| matches!(character, '\n' | '\t') || !is_unsafe(character);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        // The line break of Windows and of HTTP; alone, a carriage return overwrites its line.
        if character == '\r' && characters.peek() == Some(&'\n') {
            continue;
        }
        match is_kept(character) {
            true => cleaned.push(character),
            false => cleaned.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(cleaned)
}

/// As [`clean_text`], on one line: line breaks and tabs become spaces. For a cell of a table, a name, a
/// line of a progress display.
pub fn clean_line(text: &str) -> Cow<'_, str> {
    match clean_text(text) {
        Cow::Borrowed(text) if !text.contains(['\n', '\t']) => Cow::Borrowed(text),
        cleaned => Cow::Owned(cleaned.replace(['\n', '\t'], " ")),
    }
}

/// As [`clean_text`], with long lines shortened in their middle and too many lines left out. For errors,
/// warnings and log messages.
pub fn clean_message(text: &str) -> String {
    let text = clean_text(text);
    let count = text.lines().count();
    let mut message = String::with_capacity(text.len().min(4096));
    for (at, line) in text.lines().enumerate() {
        let is_end = at + LAST_LINES >= count;
        if count > MOST_LINES && at >= MOST_LINES - LAST_LINES && !is_end {
            if at == MOST_LINES - LAST_LINES {
                let _ = writeln!(message, "… {} lines left out …", count - MOST_LINES);
            }
            continue;
        }
        message.push_str(&shorten_middle(line, LONGEST_LINE));
        message.push('\n');
    }
    if !text.ends_with('\n') {
        message.pop();
    }
    message
}

/// A short excerpt of a document for an error, cleaned, on one line.
pub fn clean_excerpt(text: &str) -> String {
    // Only the beginning is looked at: the text may be a whole file.
    let beginning: String = text.chars().take(EXCERPT_SOURCE).collect();
    let cleaned = clean_line(&beginning);
    if beginning.len() < text.len() || cleaned.chars().count() > LONGEST_EXCERPT {
        let kept: String = cleaned.chars().take(LONGEST_EXCERPT).collect();
        return format!("{kept}…");
    }
    cleaned.into_owned()
}

/// The text with its middle replaced by `…` if it has more than `longest` characters. The end of a
/// reference or of a path tells as much as its beginning.
///
/// # Examples
///
/// ```
/// use gantry_types::foreign_text::shorten_middle;
///
/// assert_eq!(shorten_middle("docker.io/library/nginx:1.25", 15), "docker.…nx:1.25");
/// ```
pub fn shorten_middle(text: &str, longest: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= longest {
        return Cow::Borrowed(text);
    }
    let kept = longest.saturating_sub(1);
    let (first, last) = (kept - kept / 2, kept / 2);
    let beginning = text.chars().take(first);
    let end = text.chars().skip(count - last);
    Cow::Owned(beginning.chain(['…']).chain(end).collect())
}

/// A JSON document in which everything that [`clean_text`] shows as an escape is a JSON escape: its
/// values stay the same, and a terminal obeys none of them.
pub fn escape_json(json: String) -> String {
    // JSON's own writer escapes the control characters below U+0020 in strings; line breaks between
    // values are its indentation.
    if !json.chars().any(|character| character != '\n' && is_unsafe(character)) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if character == '\n' || !is_unsafe(character) {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

/// Whether a terminal obeys a character, or a reader cannot see what it does.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Marks, overrides and isolates of the bidirectional algorithm (Unicode annex 9): they show
            // text in another order than it has ("Trojan Source", CVE-2021-42574).
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators, the zero-width space, word joiners, the byte order mark.
            | '\u{2028}' | '\u{2029}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}'
            // Deprecated format characters, interlinear annotations, and tags: all invisible.
            | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_or_misleads_a_reader_is_shown_as_an_escape() {
        for (text, expected) in [
            ("plain, ünïcode, 模型, 🚀\n\tnext", "plain, ünïcode, 模型, 🚀\n\tnext"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("100%\rerror: all is well", "100%\\u{d}error: all is well"),
            ("from Windows\r\nnext", "from Windows\nnext"),
            ("user\u{202e}txt.exe", "user\\u{202e}txt.exe"),
            ("a\u{200b}b\u{feff}\u{e0041}", "a\\u{200b}b\\u{feff}\\u{e0041}"),
            ("\0\x08\x7f", "\\u{0}\\u{8}\\u{7f}"),
        ] {
            assert_eq!(clean_text(text), expected);
        }
        assert_eq!(clean_line("a\r\nb\tc"), "a b c");
    }

    #[test]
    fn addresses_lose_their_secrets_also_where_they_are_cut() {
        let url = "https://me:geheim@host/a?token=geheim";
        for cleaned in
            [clean_text(url).into_owned(), clean_line(url).into_owned(), clean_message(url)]
        {
            assert_eq!(cleaned, "https://host/a");
        }
        let late = format!("{}https://{}:geheim@host/a", " ".repeat(100), "u".repeat(50));
        assert!(!clean_excerpt(&late).contains("uu"), "{}", clean_excerpt(&late));
        assert_eq!(escape_text(url), url);
    }

    #[test]
    fn a_message_keeps_its_beginning_and_its_end() {
        assert_eq!(clean_message("one\ntwo"), "one\ntwo");
        assert_eq!(clean_message("one\n"), "one\n");
        assert_eq!(clean_message(""), "");
        let lines: Vec<String> = (1..=1000).map(|line| format!("line {line}")).collect();
        let long = lines.join("\n") + "\n";
        let shown = clean_message(&long);
        assert_eq!(shown.lines().count(), MOST_LINES + 1);
        assert!(shown.starts_with("line 1\n") && shown.ends_with("line 1000\n"), "{shown}");
        assert!(shown.contains("line 180\n… 800 lines left out …\nline 981\n"), "{shown}");
        let wide = clean_message(&"x".repeat(1 << 20));
        assert_eq!(wide.chars().count(), LONGEST_LINE);
    }

    #[test]
    fn an_excerpt_is_short_whatever_it_is_made_of() {
        assert_eq!(clean_excerpt("root:x:0:0"), "root:x:0:0");
        for text in ["x".repeat(5000), "\x1b".repeat(5000), "\n".repeat(5000)] {
            assert_eq!(clean_excerpt(&text).chars().count(), LONGEST_EXCERPT + 1);
        }
    }

    #[test]
    fn the_middle_is_what_is_left_out() {
        assert_eq!(shorten_middle("abcdef", 6), "abcdef");
        assert_eq!(shorten_middle("abcdefg", 6), "abc…fg");
        assert_eq!(shorten_middle("abcdefg", 1), "…");
        assert_eq!(shorten_middle("ééééééé", 3), "é…é");
    }

    #[test]
    fn json_keeps_its_values_and_loses_what_a_terminal_obeys() {
        let value = serde_json::json!({"name": "\u{1b}[2J\u{9b}\u{202e}\u{e0041}\u{7f} 模型", "n": [1, {}]});
        let plain = serde_json::to_string_pretty(&value).unwrap_or_default();
        let escaped = escape_json(plain.clone());
        assert_ne!(escaped, plain);
        assert!(escaped.chars().all(|character| character == '\n' || !is_unsafe(character)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).ok(), Some(value));
    }
}
