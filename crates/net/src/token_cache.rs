//! The tokens that registries have given, by server and scope, and the credentials to get them with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::{AccessScope, Credential, Credentials, Error, Result};

/// A 401 response, which asks for a credential.
pub(crate) struct AccessRefusal<'a> {
    /// What was to be accessed.
    pub(crate) access: &'a AccessScope,
    /// The values of its `WWW-Authenticate` headers.
    pub(crate) challenges: &'a [String],
    /// The error message in its body.
    pub(crate) said: &'a str,
}

/// Tokens by server and scope. Callers that need the same token share one request for it: a fetch
/// starts several transfers of one repository at the same time.
pub(crate) struct TokenCache {
    credentials: Credentials,
    slots: Mutex<HashMap<(String, String), Arc<TokenSlot>>>,
}

#[derive(Default)]
pub(crate) struct TokenSlot {
    pub(crate) current: Mutex<Option<AuthToken>>,
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
pub(crate) struct AuthToken {
    pub(crate) header: HeaderValue,
    pub(crate) until: Option<Instant>,
}

impl AuthToken {
    fn is_valid(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl TokenCache {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, slots: Mutex::new(HashMap::new()) }
    }

    /// The header for an access whose challenge was answered before.
    pub(crate) fn cached_header(&self, access: &AccessScope) -> Option<HeaderValue> {
        let slot = self.slot(access);
        let current = slot.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|token| token.is_valid()).map(|token| token.header.clone())
    }

    /// Drops a header that the server refused, unless another caller has a newer one already.
    pub(crate) fn forget_header(&self, access: &AccessScope, refused: &HeaderValue) {
        let slot = self.slot(access);
        let mut current = slot.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|token| token.header == *refused) {
            *current = None;
        }
    }

    /// The error for an access that was refused with the best credential there is.
    pub(crate) async fn refusal_error(&self, access: &AccessScope, said: &str) -> Result<Error> {
        let credential = self.find_credential(access).await?;
        Ok(unauthorized_error(&access.server, credential.as_ref(), said))
    }

    pub(crate) async fn find_credential(&self, access: &AccessScope) -> Result<Option<Credential>> {
        let credentials = self.credentials.clone();
        let server = &access.server;
        let name = match crate::token_scope::find_repository(&access.scope) {
            Some(repository) => format!("{}/{repository}", server.trim_end_matches('/')),
            None => server.clone(),
        };
        // A credential helper is a program that may wait for a keyring.
        match tokio::task::spawn_blocking(move || credentials.find_credential(&name)).await {
            Ok(result) => result,
            Err(cause) => Err(Error::Credentials {
                server: server.clone(),
                cause: types::Cause::from_error(cause),
            }),
        }
    }

    pub(crate) fn slot(&self, access: &AccessScope) -> Arc<TokenSlot> {
        // A token is for one scope: that of a pull must not be used for a push.
        let key = (access.server.clone(), access.scope.clone());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }
}

pub(crate) fn unauthorized_error(
    server: &str,
    credential: Option<&Credential>,
    said: &str,
) -> Error {
    // Docker Hub's server is a URL in docker's configuration; `docker login` alone means Docker Hub.
    let shown = if server.contains("docker.io") { "" } else { server };
    let login = format!("docker login {shown}");
    let login = login.trim_end();
    Error::Unauthorized {
        server: server.to_owned(),
        message: said.to_owned(),
        next: match credential {
            None => format!("no credential was found for it; run: {login} (or skopeo login)"),
            Some(credential) => format!(
                "the credential of {} was rejected or lacks permission; check it and run: {login}",
                credential.user()
            ),
        },
    }
}

pub(crate) fn basic_header(user: &str, password: &str) -> Result<HeaderValue> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    secret_header(&text)
}

pub(crate) fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Setup {
        what: "a credential cannot be sent".into(),
        cause: "it contains characters that an HTTP header may not have".into(),
    })?;
    // So that neither `Debug` nor HTTP/2's header compression keeps it.
    value.set_sensitive(true);
    Ok(value)
}
