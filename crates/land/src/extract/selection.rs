//! Which roots are extracted: by the names and patterns that a user gives.

use remote::name_pattern::NamePattern;
use remote::similar_names::find_similar_names;
use types::{Manifest, Root, RootKind};

use super::error::{Error, Result};
use crate::models::ModelName;

/// Names and patterns of roots.
#[derive(Debug, Clone, Default)]
pub struct ExtractSelection {
    patterns: Vec<NamePattern>,
}

impl ExtractSelection {
    /// Reads names. Without any, everything is selected but what is attached to images (signatures,
    /// SBOMs).
    pub fn parse(names: &[String]) -> Result<Self> {
        let patterns = names.iter().map(|name| NamePattern::parse(name));
        Ok(Self { patterns: patterns.collect::<remote::Result<_>>()? })
    }

    /// The selected roots. `roots` has the manifest of each.
    ///
    /// # Errors
    /// A name that fits nothing.
    pub(super) fn choose<'a>(
        &self,
        roots: &'a [(Root, Manifest, Vec<u8>)],
    ) -> Result<Vec<&'a (Root, Manifest, Vec<u8>)>> {
        if self.patterns.is_empty() {
            let all: Vec<_> =
                roots.iter().filter(|(root, ..)| root.kind != RootKind::Attached).collect();
            return if all.is_empty() { Err(Error::Nothing) } else { Ok(all) };
        }
        for pattern in &self.patterns {
            if !roots.iter().any(|(root, manifest, _)| is_meant(pattern, root, manifest)) {
                let names: Vec<String> =
                    roots.iter().flat_map(|(root, manifest, _)| names_of(root, manifest)).collect();
                let near = find_similar_names(pattern.as_str(), names.iter().map(String::as_str));
                return Err(Error::NothingNamed { name: pattern.as_str().to_owned(), near });
            }
        }
        let is_chosen = |(root, manifest, _): &&(Root, Manifest, Vec<u8>)| {
            self.patterns.iter().any(|pattern| is_meant(pattern, root, manifest))
        };
        Ok(roots.iter().filter(is_chosen).collect())
    }
}

/// Whether a pattern means a root: by its name, a chart also by its own (`app`, `app-1.2.3`), manifests by
/// their release (`web`), a model or a file as gantry.yaml names it, anything by its digest.
fn is_meant(pattern: &NamePattern, root: &Root, manifest: &Manifest) -> bool {
    let text = pattern.as_str();
    let is_plain = !pattern.is_glob();
    pattern.matches(&root.name)
        || is_plain && text == root.descriptor.digest.to_string()
        // What docker users type: `nginx` is not `docker.io/library/nginx:latest` alone.
        || is_plain && text.parse().is_ok_and(|name: types::Reference| name == root.name)
        || names_of(root, manifest).iter().any(|name| pattern.matches_text(name))
        || is_plain
            && ModelName::from_root(root, manifest).is_some_and(|name| name.is_called(text))
}

/// Short names of a root.
fn names_of(root: &Root, manifest: &Manifest) -> Vec<String> {
    let last = root.name.repository().rsplit('/').next().unwrap_or_default();
    match root.kind {
        RootKind::Chart => {
            let version = root.name.digest_or_tag().replace('_', "+");
            vec![last.to_owned(), format!("{last}-{version}"), format!("{last}:{version}")]
        }
        RootKind::Image | RootKind::Attached | RootKind::Ollama => {
            vec![root.name.to_string(), format!("{last}:{}", root.name.digest_or_tag())]
        }
        RootKind::Manifests => vec![last.to_owned(), format!("{last}.yaml")],
        RootKind::Model | RootKind::File => {
            ModelName::from_root(root, manifest).map(|name| name.short_name()).into_iter().collect()
        }
    }
}
