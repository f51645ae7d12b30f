//! Tags (`!!str`, `!mine`) as go-yaml reads them, the parser of helm and kubectl.

use serde_saphyr::granit_parser::{Scanner, StrInput, TokenType};

/// The tags that decide how go-yaml reads a scalar; every other one makes it a text
/// (`resolvableTag` in resolve.go of go-yaml 2.4.0, and `!!binary`). A `!!timestamp` is a text in JSON.
const RESOLVED_TAGS: &[&str] = &["str", "bool", "int", "float", "null", "binary"];

/// What the resolved tags start with, where they are written out.
const YAML_TAGS: &str = "tag:yaml.org,2002:";

/// A document with its tags as a reader of the YAML standard has to see them to read what go-yaml does:
/// those of maps and lists mean nothing and become blanks, and those that go-yaml does not know make a
/// scalar a text and become `!`. Every other byte stays where it is. `None` if there is no such tag.
///
/// ```yaml
/// a: !!str {b: 1}   # becomes `a:       {b: 1}`
/// c: !mine yes      # becomes `c: !     yes`
/// ```
pub(super) fn replace_tags(text: &str) -> Option<String> {
    if !may_have_tags(text) {
        return None;
    }
    let mut replaced = text.to_owned();
    // The range of the last tag, and whether go-yaml knows it, until what it belongs to is there.
    let mut tag = None;
    // Whether the last token but tags, anchors and comments is a dash.
    let mut is_behind_dash = false;
    for token in Scanner::new(StrInput::new(text)) {
        // A document with a fault is reported where it is read.
        let token = token.ok()?;
        match token.token_type() {
            TokenType::Tag(handle, suffix) => {
                let name = match handle.as_ref() {
                    "!!" => Some(suffix.as_ref()),
                    _ => suffix.strip_prefix(YAML_TAGS),
                };
                let is_known = name.is_some_and(|name| RESOLVED_TAGS.contains(&name));
                tag = Some((token.span().byte_range()?, is_known));
            }
            TokenType::Anchor(_) | TokenType::Comment(_) => {}
            other => {
                let was_behind_dash = is_behind_dash;
                is_behind_dash = matches!(other, TokenType::BlockEntry);
                let Some((range, is_known)) = tag.take() else { continue };
                let is_collection = matches!(
                    other,
                    TokenType::FlowMappingStart
                        | TokenType::FlowSequenceStart
                        | TokenType::BlockMappingStart
                        | TokenType::BlockSequenceStart // A dash behind a dash is the next item; behind a key it starts a list.
                ) || is_behind_dash && !was_behind_dash;
                let mark = match (is_collection, is_known) {
                    (true, _) => " ",
                    (false, false) => "!",
                    (false, true) => continue,
                };
                replaced
                    .replace_range(range.clone(), &format!("{mark:<width$}", width = range.len()));
            }
        }
    }
    (replaced != text).then_some(replaced)
}

/// Whether a text has a `!` where a tag may start. Most have none, and need not be read twice.
fn may_have_tags(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.match_indices('!').any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let behind = bytes.get(at + 1);
        before.is_none_or(|byte| b" \t\n\r[{,".contains(byte))
            && behind.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"!<".contains(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_replaced_in_place_and_every_other_byte_stays() {
        for (text, expected) in [
            ("a: !!str {b: 1}\n", Some("a:       {b: 1}\n")),
            ("a: !!set # x\n  b:\n", Some("a:       # x\n  b:\n")),
            ("a: &x !mine yes\n", Some("a: &x !     yes\n")),
            ("a: !mine &x yes\n", Some("a: !     &x yes\n")),
            ("!mine k: [!mine 1, !mine]\n", Some("!     k: [!     1, !    ]\n")),
            ("a: !!seq\n- !mine\n- x\n", Some("a:      \n- !    \n- x\n")),
            ("a: !!str 1\nb: ! 2\nc: !<tag:yaml.org,2002:int> 3\n", None),
            ("a: |\n  x !mine y\nb: x !mine y\n# !mine\n", None),
        ] {
            assert_eq!(replace_tags(text).as_deref(), expected, "{text}");
        }
    }
}
