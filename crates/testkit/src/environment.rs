//! The environment of a test: a registry in the role of docker.io, ghcr.io and quay.io, a Hub, a
//! site's registry, and a user whose configuration has them as mirrors.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::gantry::Gantry;
use crate::hub::{TestHub, TestHubBuilder};
use crate::images::TestImages;
use crate::registry::{TestRegistry, TestRegistryBuilder};

/// The hosts that the upstream registry is a mirror of, in addition to those of its images.
const HOSTS: [&str; 3] = ["docker.io", "ghcr.io", "quay.io"];

/// The servers and the user of a test; stopped and removed on drop.
#[derive(Debug)]
pub struct TestEnvironment {
    images: TestImages,
    upstream: TestRegistry,
    hub: TestHub,
    site: TestRegistry,
    home: TempDir,
}

impl TestEnvironment {
    /// With the fast images and the MiniLM model, without logins.
    pub fn fast() -> Self {
        Self::from_parts(TestImages::fast(), TestRegistry::builder(), TestHub::builder().minilm())
    }

    /// With the slow images (about 1 GB) and the MiniLM model, without logins.
    pub fn slow() -> Self {
        Self::from_parts(TestImages::slow(), TestRegistry::builder(), TestHub::builder().minilm())
    }

    /// With these images and servers. Where the registry has a login, the user has it in
    /// docker's `config.json`; where it has TLS, the user trusts its authority (`SSL_CERT_FILE`).
    pub fn from_parts(
        images: TestImages,
        upstream: TestRegistryBuilder,
        hub: TestHubBuilder,
    ) -> Self {
        let (upstream, hub) = (upstream.start(), hub.start());
        images.place_in_storage(upstream.storage());
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        if let Some(login) = upstream.login() {
            login.write_docker_config(&home.path().join(".docker"), upstream.host());
        }
        let world = Self { images, upstream, hub, site: TestRegistry::start(), home };
        world.set_mirrors(&world.upstream.url(), &world.hub.url());
        world
    }

    /// The same, with another registry beyond the gap: one that a cluster's nodes reach, mostly.
    #[must_use]
    pub fn with_site(mut self, site: TestRegistryBuilder) -> Self {
        self.site = site.start();
        if let Some(login) = self.site.login() {
            login.write_docker_config(&self.home.path().join(".docker"), self.site.host());
        }
        self
    }

    /// The registry in the role of docker.io, ghcr.io, quay.io and all other hosts of the images.
    pub fn upstream(&self) -> &TestRegistry {
        &self.upstream
    }

    /// The Hub in the role of huggingface.co.
    pub fn hub(&self) -> &TestHub {
        &self.hub
    }

    /// The registry beyond the gap, empty at first.
    pub fn site(&self) -> &TestRegistry {
        &self.site
    }

    /// The images that the first registry has.
    pub fn images(&self) -> &TestImages {
        &self.images
    }

    /// The user's home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The user's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.home.path().join("config.yaml")
    }

    /// Changes the user's `mirrors:` to these addresses: for a [`crate::FaultProxy`] in between.
    pub fn set_mirrors(&self, registry: &str, hub: &str) {
        let mut mirrors = serde_json::Map::new();
        let hosts = self.images.iter().map(|image| image.reference.registry());
        for host in hosts.chain(HOSTS) {
            mirrors.insert(host.to_owned(), json!(registry));
        }
        mirrors.insert("hf".to_owned(), json!(hub));
        // JSON is YAML as well.
        let text = serde_json::to_string_pretty(&json!({ "mirrors": mirrors }))
            .expect("a map of texts is JSON");
        fs::write(self.config_file(), text).expect("a configuration can be written");
    }

    /// The binary (`env!("CARGO_BIN_EXE_gantry")`) as this environment's user runs it.
    pub fn gantry(&self, binary: impl AsRef<Path>) -> Gantry {
        let gantry = Gantry::new(binary, self.home());
        match self.upstream.ca_file() {
            Some(file) => gantry.env("SSL_CERT_FILE", file),
            None => gantry,
        }
    }
}
