//! Credentials for registries, from docker's and podman's configuration files and credential helpers.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use types::Cause;

use crate::{Error, Result};

/// A credential for one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password or token.
    Password {
        /// The name.
        user: String,
        /// The secret.
        password: String,
    },
    /// An identity token (docker login with OAuth): exchanged for access tokens.
    IdentityToken(String),
}

impl Credential {
    /// The credential for a server in a configuration in docker's format, such as `.dockerconfigjson` of
    /// a pull secret; `None` when it has none for the server. Credential helpers are not run: content
    /// from a cluster must not start programs on this machine.
    pub fn from_docker_config(content: &[u8], server: &str) -> Result<Option<Self>> {
        let unreadable = |cause: Cause| Error::Credentials { server: server.to_owned(), cause };
        let mut config: serde_json::Value = serde_json::from_slice(content)
            .map_err(|cause| unreadable(Cause::about("it is not valid JSON", cause)))?;
        if let Some(map) = config.as_object_mut() {
            // credsStore and credHelpers name programs.
            map.retain(|key, _| key == "auths");
        }
        let content = config.to_string();
        convert_credential(docker_credential::get_credential_from_reader(
            content.as_bytes(),
            server,
        ))
        .map_err(|cause| unreadable(explain_failure(cause, None)))
    }

    /// The name, for messages; never the secret.
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::IdentityToken(_) => "an identity token",
        }
    }
}

// By hand: a secret must never reach a log.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.user())
    }
}

/// Where credentials come from.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    given: Option<Arc<(String, Credential)>>,
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
        Self { given: Some(Arc::new((server.to_owned(), credential))), file: None }
    }

    /// Those of one file, in the format of docker's `config.json`, instead of the system's.
    pub fn from_file(path: &Path) -> Self {
        Self { given: None, file: Some(path.to_owned()) }
    }

    /// The credential for a server, or `None`. Reads files and may run a credential helper, so it blocks:
    /// call it from a thread that may block.
    pub fn find_credential(&self, server: &str) -> Result<Option<Credential>> {
        if let Some(given) = &self.given
            && given.0 == server
        {
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
            let result = docker_credential::get_credential_from_reader(content.as_slice(), server);
            if let Some(credential) = convert_credential(result).map_err(|cause| {
                unreadable(explain_failure(cause, find_helper_name(&content, server).as_deref()))
            })? {
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
    [
        docker.map(|folder| folder.join("config.json")),
        runtime.map(|folder| folder.join("containers/auth.json")),
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

fn convert_credential(
    result: Result<DockerCredential, CredentialRetrievalError>,
) -> Result<Option<Credential>, CredentialRetrievalError> {
    match result {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
        // Credential helpers return an identity token under this user name (docker's documentation,
        // `docker login`, "Credential helper protocol").
        Ok(DockerCredential::UsernamePassword(user, token)) if user == "<token>" => {
            Ok(Some(Credential::IdentityToken(token)))
        }
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credential::Password { user, password }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // Helpers print "credentials not found" when they have none for the server; not a failure.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains("not found") || stderr.contains("not found") =>
        {
            Ok(None)
        }
        Err(cause) => Err(cause),
    }
}

/// The library's reason in plain words, with the name of the helper, which the library leaves out.
fn explain_failure(cause: CredentialRetrievalError, helper: Option<&str>) -> Cause {
    let text = match (&cause, helper) {
        (CredentialRetrievalError::HelperCommunicationError, Some(helper)) => {
            format!("the credential helper {helper} could not be run (is it in PATH?)")
        }
        (CredentialRetrievalError::MalformedHelperResponse, Some(helper)) => {
            format!("the credential helper {helper} returned no credential")
        }
        (CredentialRetrievalError::HelperFailure { helper, stdout, stderr }, _) => {
            let said = if stderr.trim().is_empty() { stdout } else { stderr };
            format!("the credential helper {helper} failed: {}", said.trim().replace('\n', " "))
        }
        (CredentialRetrievalError::ConfigReadError, _) => {
            "it is not valid JSON in docker's format".to_owned()
        }
        _ => return Cause::from_error(cause),
    };
    // Without the library's error: it may repeat what a helper printed, which may be a secret.
    text.into()
}

/// The credential helper that a configuration names for a server: its own, or the default one.
fn find_helper_name(content: &[u8], server: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(content).ok()?;
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(server));
    let name = own.or_else(|| config.get("credsStore"))?.as_str()?;
    Some(format!("docker-credential-{name}"))
}
