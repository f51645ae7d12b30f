//! Chooses a part of what a bundle or a store has, by name: `gantry load --only`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use remote::name_pattern::NamePattern;
use store::{Source, SourceReader};
use types::{Digest, Root, RootKind};

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
            .filter(|pattern| !all.iter().any(|root| pattern.matches(&root.name)))
            .cloned()
            .collect();
        if !unmatched.is_empty() {
            return Ok(Err(unmatched));
        }
        let is_named = |root: &Root| patterns.iter().any(|pattern| pattern.matches(&root.name));
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
            let digest = Digest::Sha256([1; 32]);
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
            let patterns = [NamePattern::parse(pattern).unwrap()];
            let chosen = SelectedSource::new(make_source(), &patterns).unwrap();
            let roots = chosen.ok().unwrap().roots().unwrap();
            let found: Vec<&str> = roots.iter().map(|root| root.name.repository()).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_names_nothing_is_told() {
        let patterns = ["nginx", "ngnix"].map(|text| NamePattern::parse(text).unwrap());
        let unmatched = SelectedSource::new(make_source(), &patterns).unwrap().err().unwrap();
        assert_eq!(unmatched.iter().map(NamePattern::as_str).collect::<Vec<_>>(), ["ngnix"]);
    }
}
