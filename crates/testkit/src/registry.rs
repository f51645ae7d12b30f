//! Debian's docker-registry (distribution 2.8) on a free port of loopback: the source that stands
//! for docker.io, ghcr.io and quay.io, and the site's registry that `load` fills.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::credentials::TestLogin;
use crate::process::ServerProcess;
use crate::tls::TestAuthority;
use crate::tools;

/// A running registry; killed on drop, its temporary folder removed.
#[derive(Debug)]
pub struct TestRegistry {
    process: ServerProcess,
    host: String,
    storage: PathBuf,
    authority: Option<TestAuthority>,
    login: Option<TestLogin>,
    /// Holds the configuration, the log and, unless it was given, the storage.
    _folder: TempDir,
}

/// How a registry is to run; by default open, over plain HTTP, empty, on a free port.
#[derive(Debug, Default)]
#[must_use]
pub struct TestRegistryBuilder {
    login: Option<TestLogin>,
    authority: Option<TestAuthority>,
    storage: Option<PathBuf>,
    address: Option<IpAddr>,
    port: u16,
}

impl TestRegistry {
    /// An empty registry, open and over plain HTTP.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A registry with more to say about it.
    pub fn builder() -> TestRegistryBuilder {
        TestRegistryBuilder::default()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.0.1:PORT`, or `https://` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }

    /// The authority that signed the registry's certificate, when it has one.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(TestAuthority::ca_file)
    }

    /// The authority itself, when the registry speaks TLS.
    pub fn authority(&self) -> Option<&TestAuthority> {
        self.authority.as_ref()
    }

    /// What the registry asks its users for.
    pub fn login(&self) -> Option<&TestLogin> {
        self.login.as_ref()
    }

    /// The folder of its storage driver.
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// The bytes that the registry holds on disk.
    pub fn storage_bytes(&self) -> u64 {
        tools::folder_bytes(&self.storage)
    }

    /// All that the registry has logged, one line a request among others.
    pub fn read_log(&self) -> String {
        self.process.output()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

impl TestRegistryBuilder {
    /// Asks for this login (htpasswd, basic) for every request.
    pub fn login(mut self, login: TestLogin) -> Self {
        self.login = Some(login);
        self
    }

    /// Speaks TLS with a certificate of a new authority.
    pub fn tls(mut self) -> Self {
        self.authority = Some(TestAuthority::new());
        self
    }

    /// Works on this storage folder, kept after the registry is gone: for a restart, a full disk
    /// ([`crate::Tmpfs`]), or content laid there beforehand ([`crate::TestImages::place_in_storage`]).
    pub fn storage(mut self, folder: &Path) -> Self {
        self.storage = Some(folder.to_path_buf());
        self
    }

    /// Listens on this address of the machine instead of loopback: where a cluster's nodes reach
    /// it.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Listens on this port of its address: for a registry that comes back after it was gone.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts it and returns when it listens.
    pub fn start(self) -> TestRegistry {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let storage = self.storage.clone().unwrap_or_else(|| folder.path().join("storage"));
        fs::create_dir_all(&storage).expect("a storage folder can be made");
        let config = folder.path().join("config.json");
        fs::write(&config, self.config_document(folder.path(), &storage).to_string())
            .expect("a registry's config can be written");

        let mut process = ServerProcess::start(
            tools::tool_command("docker-registry").arg("serve").arg(&config),
            &folder.path().join("log"),
        );
        let host = process.wait_for_word_after("listening on ");
        let Self { login, authority, .. } = self;
        TestRegistry { process, host, storage, authority, login, _folder: folder }
    }

    fn listen_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.port)
    }

    /// The registry's configuration (distribution, docs/configuration.md); JSON is YAML as well.
    fn config_document(&self, folder: &Path, storage: &Path) -> serde_json::Value {
        let mut config = serde_json::json!({
            "version": "0.1",
            // Its requests are logged at info; tests read them through `Registry::log`.
            "log": { "level": "info", "accesslog": { "disabled": false } },
            "storage": {
                "filesystem": { "rootdirectory": storage },
                "delete": { "enabled": true },
                "maintenance": { "uploadpurging": { "enabled": false } },
            },
            "http": { "addr": self.listen_address().to_string() },
        });
        if let Some(login) = &self.login {
            let file = folder.join("htpasswd");
            login.write_htpasswd(&file);
            config["auth"] = serde_json::json!({
                "htpasswd": { "realm": "testkit", "path": file }
            });
        }
        if let Some(authority) = &self.authority {
            let files = authority.issue_server_certificate_for(folder, self.listen_address().ip());
            config["http"]["tls"] = serde_json::json!({
                "certificate": files.certificate, "key": files.key
            });
        }
        config
    }
}
