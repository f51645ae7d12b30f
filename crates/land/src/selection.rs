//! Chooses a part of what a bundle or a store has, by name: `gantry load --only`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use store::{Source, SourceReader};
use types::{Digest, Root, RootKind};

/// A name, or a glob of names, of images, charts, models and files: `docker.io/library/nginx:1.25`,
/// `*/nginx:*`, `nginx`, `baai/bge-m3`.
#[derive(Debug, Clone)]
pub struct NamePattern {
    text: String,
    matcher: GlobMatcher,
}

/// A text that is not a glob.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a pattern: {cause}; * stands for any text")]
pub struct InvalidPattern {
    text: String,
    #[source]
    cause: globset::Error,
}

impl FromStr for NamePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        // Names in models' repositories are written in lower case; a person writes BAAI/bge-m3.
        let glob = GlobBuilder::new(text).case_insensitive(true).build();
        let glob = glob.map_err(|cause| InvalidPattern { text: text.to_owned(), cause })?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl NamePattern {
    /// Whether a root has the name: its whole reference, that without the tag or digest, or the end of
    /// its repository (`nginx` and `library/nginx` for `docker.io/library/nginx:1.25`).
    pub fn matches(&self, root: &Root) -> bool {
        let (whole, name) = (root.name.to_string(), root.name.name());
        let ends = name.match_indices('/').map(|(at, _)| name[at + 1..].to_owned());
        let tagged = whole.match_indices('/').map(|(at, _)| whole[at + 1..].to_owned());
        let candidates: Vec<String> =
            ends.chain(tagged).chain([whole.clone(), name.clone()]).collect();
        candidates.iter().any(|candidate| self.matcher.is_match(candidate))
    }
}

/// A source that shows only chosen roots of another one.
pub struct SelectedSource {
    inner: Arc<dyn Source>,
    roots: Vec<Root>,
}

impl SelectedSource {
    /// The roots that one of the patterns names, with the signatures and SBOMs of their repositories.
    /// Returns the patterns that name nothing as an error.
    pub fn new(
        inner: Arc<dyn Source>,
        patterns: &[NamePattern],
    ) -> store::Result<Result<Self, Vec<NamePattern>>> {
        let all = inner.roots()?;
        let unmatched: Vec<NamePattern> = patterns
            .iter()
            .filter(|pattern| !all.iter().any(|root| pattern.matches(root)))
            .cloned()
            .collect();
        if !unmatched.is_empty() {
            return Ok(Err(unmatched));
        }
        let is_named = |root: &Root| patterns.iter().any(|pattern| pattern.matches(root));
        let repositories: BTreeSet<String> =
            all.iter().filter(|root| is_named(root)).map(|root| root.name.name()).collect();
        let is_chosen = |root: &Root| {
            is_named(root)
                || root.kind == RootKind::Attached && repositories.contains(&root.name.name())
        };
        let roots = all.into_iter().filter(is_chosen).collect();
        Ok(Ok(Self { inner, roots }))
    }
}

impl Source for SelectedSource {
    fn roots(&self) -> store::Result<Vec<Root>> {
        Ok(self.roots.clone())
    }

    fn blob_size(&self, digest: &Digest) -> store::Result<Option<u64>> {
        self.inner.blob_size(digest)
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> store::Result<SourceReader> {
        self.inner.open_blob(digest, range)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::{Descriptor, media_type};

    use super::*;

    struct Listed(Vec<Root>);

    impl Source for Listed {
        fn roots(&self) -> store::Result<Vec<Root>> {
            Ok(self.0.clone())
        }

        fn blob_size(&self, _: &Digest) -> store::Result<Option<u64>> {
            Ok(None)
        }

        fn open_blob(&self, digest: &Digest, _: Range<u64>) -> store::Result<SourceReader> {
            Err(store::Error::BlobMissing { digest: *digest })
        }
    }

    fn make_source() -> Arc<dyn Source> {
        let root = |name: &str, kind| {
            let digest = Digest::from_bytes([1; 32]);
            let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, 1);
            Root::new(name.parse().unwrap(), kind, descriptor)
        };
        Arc::new(Listed(vec![
            root("docker.io/library/nginx:1.25", RootKind::Image),
            root("docker.io/library/nginx:sha256-aa.sig", RootKind::Attached),
            root("docker.io/library/redis:7", RootKind::Image),
            root("huggingface.co/baai/bge-m3:main", RootKind::Model),
        ]))
    }

    #[test]
    fn parts_are_chosen_by_name_end_of_the_name_or_glob() {
        for (pattern, expected) in [
            ("docker.io/library/nginx:1.25", &["library/nginx", "library/nginx"][..]),
            ("nginx", &["library/nginx", "library/nginx"]),
            ("redis:*", &["library/redis"]),
            ("*/library/*", &["library/nginx", "library/nginx", "library/redis"]),
            ("BAAI/bge-m3", &["baai/bge-m3"]),
        ] {
            let patterns = [pattern.parse().unwrap()];
            let chosen = SelectedSource::new(make_source(), &patterns).unwrap();
            let roots = chosen.ok().unwrap().roots().unwrap();
            let found: Vec<&str> = roots.iter().map(|root| root.name.repository()).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_names_nothing_is_told() {
        let patterns = ["nginx".parse().unwrap(), "ngnix".parse().unwrap()];
        let unmatched = SelectedSource::new(make_source(), &patterns).unwrap().err().unwrap();
        assert_eq!(unmatched.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ngnix"]);
        assert!("a[".parse::<NamePattern>().is_err());
    }
}
