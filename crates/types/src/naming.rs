//! Which name an image or artifact gets in the site's registry. `load` pushes under this name and
//! the overlay of a chart points at it, so both take it from here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Reference, Result, reference::is_host};

/// How the name in the site's registry is made from the name at the source.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NamingRule {
    /// The repository's path behind the registry: `ghcr.io/a/b:1` is `SITE/a/b:1`.
    #[default]
    Path,
    /// With the source's host as the first path segment: `SITE/ghcr.io/a/b:1`.
    HostPath,
    /// The last segment only: `SITE/b:1`.
    Name,
}

impl NamingRule {
    /// The value as it is written in site.yaml and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::HostPath => "host-path",
            Self::Name => "name",
        }
    }
}

impl FromStr for NamingRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Path, Self::HostPath, Self::Name]
            .into_iter()
            .find(|naming| naming.as_str() == text)
            .ok_or_else(|| Error::invalid_text("naming", text, "write path, host-path or name"))
    }
}

/// A registry and a path in it, under which a site keeps everything that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryPrefix {
    registry: String,
    path: String,
}

impl RegistryPrefix {
    /// The registry's host and port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Whether a reference is the name of something below this prefix.
    pub fn contains(&self, reference: &Reference) -> bool {
        let name = reference.name();
        name.strip_prefix(&self.to_string()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The name that `reference` gets in this registry. Tag and digest stay as they are.
    pub fn site_reference(&self, naming: NamingRule, reference: &Reference) -> Result<Reference> {
        let repository = reference.repository();
        let own = match naming {
            NamingRule::Path => repository.to_owned(),
            // The colon of a port is not allowed in a repository path (distribution/reference).
            NamingRule::HostPath => {
                format!("{}/{repository}", reference.registry().replace(':', "-"))
            }
            NamingRule::Name => repository.rsplit('/').next().unwrap_or(repository).to_owned(),
        };
        let repository = if self.path.is_empty() { own } else { format!("{}/{own}", self.path) };
        Reference::new(&self.registry, &repository, reference.tag(), reference.digest().copied())
    }

    /// The names of all `references` in this registry, by their source names. Fails with
    /// [`Error::Collision`] for the first two that come from different repositories and would get
    /// the same name. Call it before the first push.
    pub fn site_references<'a>(
        &self,
        naming: NamingRule,
        references: impl IntoIterator<Item = &'a Reference>,
    ) -> Result<BTreeMap<Reference, Reference>> {
        let mut taken: BTreeMap<String, &Reference> = BTreeMap::new();
        let mut targets = BTreeMap::new();
        for reference in references {
            let target = self.site_reference(naming, reference)?;
            // Compared without tags: two repositories that share one repository at the site would
            // mix their tags, also where no tag is the same today.
            if let Some(other) = taken.insert(target.name(), reference)
                && other.name() != reference.name()
            {
                let hint = match naming {
                    // The full source name is in the target already: only a port's dash can clash.
                    NamingRule::HostPath => "carry one of them in a bundle of its own",
                    // The least change that helps: `path` if the repository paths differ, else `host-path`.
                    NamingRule::Name
                        if self.gives_different_names(NamingRule::Path, other, reference) =>
                    {
                        "use the naming path, which keeps the whole repository path"
                    }
                    NamingRule::Path | NamingRule::Name => {
                        "use the naming host-path, which keeps the source's host"
                    }
                };
                return Err(Error::Collision {
                    first: other.name(),
                    second: reference.name(),
                    target: target.name(),
                    hint: hint.to_owned(),
                });
            }
            targets.insert(reference.clone(), target);
        }
        Ok(targets)
    }

    fn gives_different_names(&self, naming: NamingRule, a: &Reference, b: &Reference) -> bool {
        match (self.site_reference(naming, a), self.site_reference(naming, b)) {
            (Ok(a), Ok(b)) => a.name() != b.name(),
            _ => false,
        }
    }
}

/// Requires that container runtimes read a name at the site as it is written. They read `registry/x` as
/// `docker.io/registry/x`, since it has neither a dot nor a port: a policy that compares names would
/// admit images from the internet then, and a webhook would write such names.
pub fn require_read_back(target: &Reference) -> Result<()> {
    let name = target.name();
    let read: Reference = name.parse()?;
    if read.name() == name {
        return Ok(());
    }
    Err(Error::NotAHost { registry: target.registry().to_owned(), read: read.name(), target: name })
}

impl FromStr for RegistryPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::invalid_text("registry prefix", text, reason);
        if text.contains("://") {
            return Err(invalid("write it without a scheme, as host[:port][/path]"));
        }
        let trimmed = text.trim_end_matches('/');
        let (registry, path) = trimmed.split_once('/').unwrap_or((trimmed, ""));
        if !is_host(registry) {
            return Err(invalid("write host[:port][/path], such as registry.internal:5000/ai"));
        }
        if !path.is_empty() {
            // Any tag will do: only registry and path are checked here.
            Reference::new(registry, path, Some("x"), None).map_err(|error| match error {
                Error::Invalid { reason, .. } => {
                    Error::invalid_text("registry prefix", text, reason)
                }
                other => other,
            })?;
        }
        Ok(Self { registry: registry.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for RegistryPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse_reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn a_site_names_an_image_by_its_rule() {
        let site: RegistryPrefix = "registry.internal:5000/ai".parse().unwrap();
        let image = parse_reference("ghcr.io/org/server:1");
        for (naming, target) in [
            (NamingRule::Path, "registry.internal:5000/ai/org/server:1"),
            (NamingRule::HostPath, "registry.internal:5000/ai/ghcr.io/org/server:1"),
            (NamingRule::Name, "registry.internal:5000/ai/server:1"),
        ] {
            assert_eq!(site.site_reference(naming, &image).unwrap().to_string(), target);
        }
    }

    #[test]
    fn two_images_on_one_name_are_refused_with_the_naming_that_separates_them() {
        let site: RegistryPrefix = "registry.internal".parse().unwrap();
        let both = [parse_reference("ghcr.io/a/x:1"), parse_reference("quay.io/b/x:1")];
        let error = site.site_references(NamingRule::Name, &both).unwrap_err().to_string();
        assert!(error.contains("naming path"), "{error}");
        let same_path = [parse_reference("ghcr.io/a/x:1"), parse_reference("quay.io/a/x:2")];
        let error = site.site_references(NamingRule::Path, &same_path).unwrap_err().to_string();
        assert!(error.contains("naming host-path"), "{error}");
        assert_eq!(site.site_references(NamingRule::HostPath, &same_path).unwrap().len(), 2);
    }

    #[test]
    fn two_tags_of_one_repository_do_not_collide() {
        let site: RegistryPrefix = "registry.internal".parse().unwrap();
        let tags = [parse_reference("ghcr.io/a/x:1"), parse_reference("ghcr.io/a/x:2")];
        assert_eq!(site.site_references(NamingRule::Name, &tags).unwrap().len(), 2);
    }

    #[test]
    fn a_prefix_that_is_none_says_what_to_write() {
        for wrong in ["", "https://registry.internal", "registry.internal/UPPER", "/x", "a b"] {
            assert!(wrong.parse::<RegistryPrefix>().is_err(), "{wrong}");
        }
    }
}
