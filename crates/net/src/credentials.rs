//! Credentials for registries, from docker's and podman's configuration files and credential helpers.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::Cause;

use crate::docker_config::{self, HelperPolicy};
use crate::{Credential, Error, Result};

/// Where credentials come from.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Preferred to those of files.
    given: Vec<Arc<(String, Credential)>>,
    file: Option<PathBuf>,
}

impl Credentials {
    /// docker's `config.json` (`DOCKER_CONFIG`), `REGISTRY_AUTH_FILE`, then podman's `auth.json`,
    /// with their helpers.
    pub fn from_system() -> Self {
        Self::default()
    }

    /// One credential for one server, which is preferred to those of the system.
    pub fn with_credential(server: &str, credential: Credential) -> Self {
        Self { given: vec![Arc::new((server.to_owned(), credential))], file: None }
    }

    /// With further ones for single servers, which are preferred to those of files.
    #[must_use]
    pub(crate) fn with_more(mut self, more: Vec<(String, Credential)>) -> Self {
        self.given.extend(more.into_iter().map(Arc::new));
        self
    }

    /// Those of one file, in the format of docker's `config.json`, instead of the system's.
    pub fn from_file(path: &Path) -> Self {
        Self { given: Vec::new(), file: Some(path.to_owned()) }
    }

    /// The credential for a server, or for a repository on it (`host/org/app`): files may have one for a
    /// part of the path, and the longest counts. `None` when there is none. Reads files and may run a
    /// credential helper, so it blocks: call it from a thread that may block.
    pub fn find_credential(&self, server: &str) -> Result<Option<Credential>> {
        let given = self.given.iter().find(|given| docker_config::is_key_for(&given.0, server));
        if let Some(given) = given {
            return Ok(Some(given.1.clone()));
        }
        // The first file that has a credential for the server counts, docker's before podman's.
        let all = self.file.as_ref().map_or_else(list_credential_files, |file| vec![file.clone()]);
        for path in all {
            let unreadable = |cause: Cause| {
                let text = format!("{}: {cause}", path.display());
                Error::Credentials { server: server.to_owned(), cause: cause.with_text(text) }
            };
            let content = match std::fs::read(&path) {
                Ok(content) => content,
                // A file that exists but cannot be read is an error: going on without it would fail later
                // with a 401 that nobody could explain.
                Err(cause) if self.file.is_none() && is_optional(&path, &cause) => continue,
                Err(cause) => return Err(unreadable(cause.into())),
            };
            let found = docker_config::find_in_config(&content, server, HelperPolicy::Run);
            if let Some(credential) = found.map_err(unreadable)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

/// The files to search, in this order. If `REGISTRY_AUTH_FILE` is set, only that one, as for skopeo.
fn list_credential_files() -> Vec<PathBuf> {
    if let Some(only) = env::var_os("REGISTRY_AUTH_FILE") {
        return vec![PathBuf::from(only)];
    }
    let home = env::var_os("HOME").map(PathBuf::from);
    let docker = env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // containers-auth.json(5): where podman and skopeo write without XDG_RUNTIME_DIR.
    #[cfg(target_os = "linux")]
    let runtime = runtime.or_else(|| {
        Some(PathBuf::from(format!("/run/containers/{}", rustix::process::getuid().as_raw())))
    });
    [
        docker.map(|folder| folder.join("config.json")),
        runtime.as_ref().map(|folder| folder.join("containers/auth.json")),
        runtime.map(|folder| folder.join("auth.json")),
        home.map(|folder| folder.join(".config/containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether a file may be missing: all but the one that the user named may.
fn is_optional(path: &Path, cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        && env::var_os("REGISTRY_AUTH_FILE").is_none_or(|only| path != Path::new(&only))
}
