//! Where images are moved to.

use types::Reference;
use types::naming::{NamingRule, RegistryPrefix};

/// The site's registry, and the names that images get in it.
#[derive(Debug, Clone)]
pub struct RelocationTarget {
    /// The registry and the path in it that all images are below: `registry.internal:5000/ai`.
    pub prefix: RegistryPrefix,
    /// How the name of an image at the site is made from its original name.
    pub naming: NamingRule,
    /// The name of the pull secret that pods need, if the registry asks for credentials.
    pub pull_secret: Option<String>,
}

impl RelocationTarget {
    /// Whether an image reference points at the site already.
    pub fn is_site_image(&self, reference: &Reference) -> bool {
        let name = reference.name();
        let prefix = self.prefix.to_string();
        name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}
