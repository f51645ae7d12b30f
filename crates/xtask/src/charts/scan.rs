//! A plain look at a rendered stream that knows nothing of the chart crate: every word that looks
//! like an image, Secrets decoded. What it sees and the crate does not say is a defect of one of
//! the two.

use std::collections::BTreeSet;

use base64::Engine as _;
use regex::Regex;
use types::Reference;

/// The scanner with its patterns.
pub(super) struct Scan {
    base64: Regex,
    full: Regex,
    field: Regex,
}

impl Scan {
    pub(super) fn new() -> Result<Self, String> {
        let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
        Ok(Self {
            base64: regex(r#"(?m)^\s+[\w.-]+: "?([A-Za-z0-9+/]{16,}={0,2})"?$"#)?,
            // host/path with a tag or a digest.
            full: regex(concat!(
                r#"(?:^|[\s"'=,\[])"#,
                r"((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[a-z0-9._/-]+",
                r"(?::[A-Za-z0-9_][\w.-]*|@sha256:[0-9a-f]{64}))"
            ))?,
            // Whatever stands behind `image:`, `-image=`, `_IMAGE: ` and has a tag.
            field: regex(
                r#"(?i)image["']?(?:\s*[:=]\s*)["']?([a-z0-9][a-z0-9._/-]*:[\w][\w.-]*)["']?(?:[\s,;\]})]|$)"#,
            )?,
        })
    }

    /// The references that a stream names.
    pub(super) fn references(&self, stream: &str) -> BTreeSet<String> {
        let mut text = stream.to_owned();
        for found in self.base64.captures_iter(stream) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&found[1]);
            if let Some(decoded) = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                text.push_str("\n---\n");
                text.push_str(&decoded);
            }
        }
        // Schemas of CRDs are documentation.
        let documents =
            text.split("\n---").filter(|d| !d.contains("kind: CustomResourceDefinition"));
        let mut references = BTreeSet::new();
        for line in
            documents.flat_map(str::lines).filter(|line| !line.trim_start().starts_with('#'))
        {
            let words = self.full.captures_iter(line).chain(self.field.captures_iter(line));
            let parsed = words.filter_map(|found| found[1].parse::<Reference>().ok());
            references.extend(parsed.map(|reference| reference.to_string()));
        }
        references
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_scan_sees_images_in_fields_arguments_texts_and_secrets() {
        let secret =
            base64::engine::general_purpose::STANDARD.encode("image: quay.io/a/hidden:1\n");
        let stream = format!(
            "image: nginx:1\nargs: [--x=ghcr.io/a/b:2, \"--y-image=org/app:3\"]\ndata:\n  a: {secret}\n# ghcr.io/a/no:1\n"
        );
        let seen = Scan::new().unwrap().references(&stream);
        let expected = [
            "docker.io/library/nginx:1",
            "docker.io/org/app:3",
            "ghcr.io/a/b:2",
            "quay.io/a/hidden:1",
        ];
        assert_eq!(seen, expected.map(str::to_owned).into());
    }
}
