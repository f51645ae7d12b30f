//! The site's registry as the checks use it: names of images there, and a client that reads them.

use std::path::PathBuf;

use net::{Client, Mirrors};
use remote::site_registry::RegistryConnection;
use types::Reference;
use types::lock::Lock;
use types::naming::{NamingRule, RegistryPrefix};
use types::site::RegistryTarget;
use types::site_content::SiteContent;

/// The site's registry, and how to connect to it.
#[derive(Clone)]
pub struct SiteRegistry {
    /// The registry, and the path under which images are stored.
    pub prefix: RegistryPrefix,
    /// How public names are turned into names at the site.
    pub naming: NamingRule,
    /// The name of the pull secret, if the site has one.
    pub pull_secret: Option<String>,
    /// The HTTP client, with the credentials of the user.
    pub client: Client,
    /// The addresses and mirrors of registries.
    pub mirrors: Mirrors,
    /// Files with additional CA certificates.
    pub ca: Vec<PathBuf>,
}

impl SiteRegistry {
    /// The registry of a site, as it was opened.
    pub fn new(registry: &RegistryTarget, opened: RegistryConnection) -> types::Result<Self> {
        Ok(Self {
            prefix: registry.parse_prefix()?,
            naming: registry.naming,
            pull_secret: registry.pull_secret.clone(),
            client: opened.client,
            mirrors: opened.mirrors,
            ca: opened.ca,
        })
    }

    /// A client of the registry API that reads images.
    pub(super) fn reader(&self) -> remote::oci::RegistryClient {
        remote::oci::RegistryClient::new(&self.client, &self.mirrors, self.prefix.registry())
    }

    /// What the site holds of a lock.
    ///
    /// # Errors
    /// Names that are not valid at the site, or that two roots of the lock would share.
    pub(super) fn content(&self, lock: &Lock) -> types::Result<SiteContent> {
        let target = RegistryTarget::from_prefix(&self.prefix, self.naming);
        SiteContent::new(std::slice::from_ref(lock), &[], &target)
    }

    /// The name of an image at the site.
    ///
    /// # Errors
    /// A name that is not valid at the site.
    pub(super) fn target_reference(&self, reference: &Reference) -> types::Result<Reference> {
        self.prefix.site_reference(self.naming, reference)
    }
}
