//! Manifests as text: a comment that says what they are, then one YAML document each.

use serde_json::Value;

use crate::Result;

/// The documents as one stream that `kubectl apply -f` takes, the same for the same content.
/// `about` becomes the comment at its head, a line each.
pub fn print(about: &[String], documents: &[Value]) -> Result<String> {
    let mut text = String::new();
    for line in about {
        text.push_str("# ");
        text.extend(line.chars().map(|c| if breaks_a_line(c) { ' ' } else { c }));
        text.push('\n');
    }
    for document in documents {
        text.push_str("---\n");
        text.push_str(&types::yaml::write_manifest(document)?);
    }
    Ok(text)
}

/// A comment may quote a name out of a chart; what YAML 1.1 takes for the end of a line would let
/// that name go on as a document.
fn breaks_a_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_comment_stays_a_comment_whatever_it_quotes() {
        let text = print(&["x\n---\nkind: A\r---\u{85}\u{2028}kind: B".to_owned()], &[]).unwrap();
        assert_eq!(text, "# x --- kind: A ---  kind: B\n");
    }
}
