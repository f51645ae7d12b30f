//! Reads only the head of a large CustomResourceDefinition. Its schema is most of the text of many
//! charts, takes most of the time of parsing them, and nothing of it matters to images but defaults
//! that name one.

use serde_json::Value;
use types::yaml;

/// The length in bytes from which parsing only the head is worth the search through the text.
const LARGE: usize = 16 << 10;
const KIND: &str = "\nkind: CustomResourceDefinition";
const SPEC: &str = "\nspec:\n";

/// The content of a large CustomResourceDefinition with its `spec` as one text, so that any
/// difference between two of them still shows. `None` for other documents, and where a default may
/// name an image; the head must be valid YAML.
pub(crate) fn read_definition_head(text: &str) -> Option<Value> {
    if text.len() < LARGE {
        return None;
    }
    let (head, spec) = text.split_once(SPEC)?;
    // Anything that is not written as generators and helm write it is parsed as a whole.
    let is_head = head.starts_with(KIND.trim_start()) || head.contains(KIND);
    if !is_head || may_have_default_image(spec) {
        return None;
    }
    let mut value = yaml::read_manifest(head).ok()?;
    value.as_object_mut()?.insert("spec".into(), Value::from(spec));
    Some(value)
}

/// Whether a text has a default that may be the name of an image: `default: ghcr.io/org/app:1`. May
/// be wrong in one direction only.
fn may_have_default_image(text: &str) -> bool {
    const KEY: &str = "default";
    text.match_indices(KEY).any(|(start, _)| {
        let rest = &text[start + KEY.len()..];
        let Some(rest) = rest.trim_start_matches(['"', '\'']).strip_prefix(':') else {
            return false;
        };
        let mut lines = rest.lines().map(str::trim);
        match lines.next().unwrap_or_default() {
            // A map or a list on the lines below, such as the properties of a field of this name.
            "" => lines.next().is_some_and(|line| !line.contains(':') && !line.starts_with("- ")),
            line => line.contains([':', '/', '|', '>', '&', '*']),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn definition(field: &str) -> String {
        let lines = "          # a long description of a field\n".repeat(500);
        format!(
            "# Source: a/crds/a.yaml\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
             metadata:\n  name: a\nspec:\n  versions:\n  - schema:\n{lines}        {field}\n"
        )
    }

    #[test]
    fn the_schema_of_a_definition_is_one_text_unless_a_default_may_be_an_image() {
        for field in
            ["default: IfNotPresent", "default: 1", "default:\n          type: object", "x: a/b:1"]
        {
            let value = read_definition_head(&definition(field)).unwrap();
            assert_eq!(value["metadata"]["name"], "a");
            assert!(value["spec"].as_str().unwrap().contains(field), "{field}");
        }
        for field in [
            "default: ghcr.io/a/b:1",
            "default: b:1",
            "{default: 'a/b'}",
            "\"default\": a/b",
            "default: >-",
            "default:\n          a/b",
        ] {
            assert_eq!(read_definition_head(&definition(field)), None, "{field}");
        }
        let other = definition("x: 1").replace("CustomResourceDefinition", "ConfigMap");
        assert_eq!(read_definition_head(&other), None);
        assert_eq!(read_definition_head("kind: CustomResourceDefinition\nspec:\n  a: 1\n"), None);
    }
}
