//! Who we are to a registry: docker's and podman's configuration files and credential helpers.

use std::env;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use docker_credential::{CredentialRetrievalError, DockerCredential};

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
}

impl Credentials {
    /// docker's `config.json` (`DOCKER_CONFIG`), `REGISTRY_AUTH_FILE`, then podman's `auth.json`,
    /// with their helpers.
    pub fn system() -> Self {
        Self::default()
    }

    /// One credential for one server, before those of the system.
    pub fn with(server: &str, credential: Credential) -> Self {
        Self { given: Some(Arc::new((server.to_owned(), credential))) }
    }

    /// The credential for a server, or `None`. Reads files and may run a helper program: it blocks,
    /// and is called off the async threads.
    pub(crate) fn find(&self, server: &str) -> Result<Option<Credential>> {
        if let Some(given) = &self.given
            && given.0 == server
        {
            return Ok(Some(given.1.clone()));
        }
        if let Some(path) = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from) {
            let file = File::open(&path).map_err(|cause| Error::Credentials {
                server: server.to_owned(),
                cause: format!("REGISTRY_AUTH_FILE {}: {cause}", path.display()),
            })?;
            return found(server, docker_credential::get_credential_from_reader(file, server));
        }
        match found(server, docker_credential::get_credential(server))? {
            Some(credential) => Ok(Some(credential)),
            None => found(server, docker_credential::get_podman_credential(server)),
        }
    }
}

fn found(
    server: &str,
    result: Result<DockerCredential, CredentialRetrievalError>,
) -> Result<Option<Credential>> {
    match result {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
        // docker's helpers mark an identity token with this name.
        Ok(DockerCredential::UsernamePassword(user, token)) if user == "<token>" => {
            Ok(Some(Credential::IdentityToken(token)))
        }
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credential::Password { user, password }))
        }
        Err(
            CredentialRetrievalError::NoCredentialConfigured
            | CredentialRetrievalError::ConfigNotFound,
        ) => Ok(None),
        // A helper says so when it has nothing for the server; that is no failure.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if stdout.contains("not found") || stderr.contains("not found") =>
        {
            Ok(None)
        }
        Err(cause) => Err(Error::Credentials {
            server: server.to_owned(),
            cause: cause.to_string().replace('\n', " "),
        }),
    }
}
