//! Where images are moved to.

use types::Reference;
use types::naming::{NamingRule, RegistryPrefix};
use types::site::RegistryTarget;

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
    /// The target that a site's registry is.
    ///
    /// # Errors
    /// An address that is not valid, or that nodes would read as a repository of Docker Hub.
    pub fn from_registry(registry: &RegistryTarget) -> types::Result<Self> {
        registry.require_pullable()?;
        Ok(Self {
            prefix: registry.parse_prefix()?,
            naming: registry.naming,
            pull_secret: registry.pull_secret.clone(),
        })
    }

    /// What a registry that stands alone, or with a path, is called at the site; `None` under a
    /// naming that drops the folders of repositories, since it does not say how images behind it are
    /// called.
    pub(crate) fn site_registry(&self, registry: &str) -> Option<String> {
        let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
        let path = path.trim_matches('/');
        let mut text = self.prefix.to_string();
        match self.naming {
            NamingRule::Path => {}
            NamingRule::HostPath => text = format!("{text}/{}", host.replace(':', "-")),
            NamingRule::Name => return None,
        }
        Some(if path.is_empty() { text } else { format!("{text}/{path}") })
    }

    /// Whether an image reference points at the site already.
    pub fn is_site_image(&self, reference: &Reference) -> bool {
        self.prefix.contains(reference)
    }
}
