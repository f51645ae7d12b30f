//! Manifests as text: a comment that says what they are, then one YAML document each.

use serde_json::Value;

use crate::Result;

/// The documents as one stream that `kubectl apply -f` takes, the same for the same content.
/// `about` becomes the comment at its head, a line each.
pub fn print(about: &[String], documents: &[Value]) -> Result<String> {
    let mut text: String = about.iter().map(|line| format!("# {line}\n")).collect();
    for document in documents {
        text.push_str("---\n");
        text.push_str(&types::yaml::write_manifest(document)?);
    }
    Ok(text)
}
