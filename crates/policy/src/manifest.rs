//! Formats manifests as a YAML stream with a comment at its head.

use serde_json::Value;

use crate::Result;

/// Formats documents as one stream for `kubectl apply -f`; the same content always gives the same
/// bytes. Each string of `about` becomes one line of the comment at its head.
pub fn format_manifests(about: &[String], documents: &[Value]) -> Result<String> {
    let mut text = String::new();
    for line in about {
        text.push_str("# ");
        text.extend(line.chars().map(|c| if is_line_break(c) { ' ' } else { c }));
        text.push('\n');
    }
    for document in documents {
        text.push_str("---\n");
        text.push_str(&types::yaml::write_manifest(document)?);
    }
    Ok(text)
}

/// Whether a character ends a line in YAML 1.1. A comment may quote a name from a chart; a line
/// break in it would end the comment and inject a document.
fn is_line_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_comment_stays_a_comment_whatever_it_quotes() {
        let text = format_manifests(&["x\n---\nkind: A\r---\u{85}\u{2028}kind: B".to_owned()], &[])
            .unwrap();
        assert_eq!(text, "# x --- kind: A ---  kind: B\n");
    }
}
