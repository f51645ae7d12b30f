//! Patterns for the names of images and other roots, as users write them: `nginx*`, `ghcr.io/org/*`.

use globset::{GlobBuilder, GlobMatcher};
use types::Reference;

use crate::{Error, Result};

/// A name, perhaps with `*`, `?` and `[…]`. `*` also matches `/`; the case of letters does not matter.
#[derive(Debug, Clone)]
pub struct NamePattern {
    text: String,
    glob: GlobMatcher,
}

impl NamePattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self> {
        let glob = GlobBuilder::new(text).literal_separator(false).case_insensitive(true).build();
        let glob = glob.map_err(|error| {
            Error::invalid_document(format!("the pattern {text:?}"), error.kind().to_string())
        })?;
        Ok(Self { text: text.to_owned(), glob: glob.compile_matcher() })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has signs that stand for others, and so may mean several names.
    pub fn is_glob(&self) -> bool {
        self.text.contains(['*', '?', '[', '{'])
    }

    /// Whether a text is matched.
    pub fn matches_text(&self, text: &str) -> bool {
        self.glob.is_match(text)
    }

    /// Whether a root's name is matched, written in full or from any `/` on, with or without its tag and
    /// digest: `docker.io/library/nginx:1.25`, `library/nginx`, `nginx`.
    pub fn matches(&self, name: &Reference) -> bool {
        [name.to_string(), name.name()].iter().any(|full| {
            let ends = full.match_indices('/').map(|(at, _)| &full[at + 1..]);
            std::iter::once(full.as_str()).chain(ends).any(|name| self.matches_text(name))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_image_is_matched_in_full_and_by_the_end_of_its_name() {
        let name = "docker.io/library/nginx:1.25".parse().unwrap();
        for text in
            ["nginx", "nginx:1.25", "NGINX*", "docker.io/*", "*/nginx:1.*", "library/nginx", "*"]
        {
            assert!(NamePattern::parse(text).unwrap().matches(&name), "{text}");
        }
        for text in ["ngin", "nginx:1.2", "quay.io/*", "nginx:2*"] {
            assert!(!NamePattern::parse(text).unwrap().matches(&name), "{text}");
        }
        assert!(NamePattern::parse("a[").is_err());
    }
}
