//! Authentication to registries: answers the challenge of a 401 by a password (Basic) or by a token
//! from the server that the challenge names (distribution's "Token Authentication Specification", and
//! its OAuth2 variant for identity tokens).
//!
//! ```text
//! GET /v2/a/b/manifests/1   401  WWW-Authenticate: Bearer realm="https://auth/token",service="r"
//! GET https://auth/token?service=r&scope=repository:a/b:pull   200  {"token": "…"}
//! GET /v2/a/b/manifests/1   with Authorization: Bearer …
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use url::Url;

use crate::client::{FailedAttempt, SendError, describe_status};
use crate::mirrors::is_loopback;
use crate::request::RequestBody;
use crate::{
    AccessScope, Client, Credential, Credentials, Error, HttpRequest, HttpResponse, Result,
    RetryPolicy,
};

/// A token is renewed this long before it expires, so that it does not expire during a request.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a token is valid where the server does not say: 60 seconds (distribution's token
/// specification, `expires_in`).
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
/// The largest response of a token server that is read; real ones have a few kilobytes.
const MOST_TOKEN_BYTES: u64 = 1 << 20;

/// A challenge of a `WWW-Authenticate` header (RFC 9110, 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthChallenge {
    /// `bearer`, `basic`, in lower case.
    pub scheme: String,
    /// The parameters, names in lower case.
    pub parameters: HashMap<String, String>,
}

impl AuthChallenge {
    /// All challenges of one header value. One header may have several, and quoted values may contain
    /// commas.
    pub fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        for item in split_at_commas(text) {
            let item = item.trim();
            let (head, value) = match item.split_once('=') {
                Some((head, value)) => (head.trim(), Some(value.trim())),
                None => (item, None),
            };
            // `Bearer realm` starts a challenge; `service` goes on with the last one.
            let (scheme, name) = match head.rsplit_once(char::is_whitespace) {
                Some((scheme, name)) => (Some(scheme.trim()), name),
                None if value.is_none() => (Some(head), ""),
                None => (None, head),
            };
            if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
                let scheme = scheme.to_ascii_lowercase();
                challenges.push(Self { scheme, parameters: HashMap::new() });
            }
            if let (Some(challenge), Some(value)) = (challenges.last_mut(), value) {
                let value = unquote_value(value);
                challenge.parameters.insert(name.to_ascii_lowercase(), value);
            }
        }
        challenges
    }
}

/// A token, or a quoted string without its quotes and escapes (RFC 9110, 5.6.4).
fn unquote_value(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut characters = inner.chars();
    let mut plain = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}

/// Splits at commas outside of quotes.
fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// A 401 response, which asks for a credential.
pub(crate) struct AccessRefusal<'a> {
    /// What was to be accessed.
    pub(crate) access: &'a AccessScope,
    /// The address that responded with 401.
    pub(crate) asked_by: &'a Url,
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
struct TokenSlot {
    current: Mutex<Option<AuthToken>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct AuthToken {
    header: HeaderValue,
    until: Option<Instant>,
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

    /// The header that answers a challenge.
    pub(crate) async fn answer_challenge(
        &self,
        client: &Client,
        question: &AccessRefusal<'_>,
    ) -> Result<HeaderValue, SendError> {
        let access = question.access;
        let slot = self.slot(access);
        // One caller at a time per token: the others wait here and find the new one below.
        let _turn = slot.turn.lock().await;
        // Another caller may have fetched the token while this one waited for its turn.
        if let Some(header) = self.cached_header(access) {
            return Ok(header);
        }
        let credential = self.find_credential(&access.server).await?;
        let challenges: Vec<AuthChallenge> =
            question.challenges.iter().flat_map(|text| AuthChallenge::parse(text)).collect();
        let by_scheme = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        // Bearer first: it is limited to the scope, and the password goes to the token server only.
        let token = if let Some(challenge) = by_scheme("bearer") {
            fetch_token(client, question, challenge, credential.as_ref()).await?
        } else {
            let Some(Credential::Password { user, password }) = &credential else {
                return Err(
                    unauthorized_error(&access.server, credential.as_ref(), question.said).into()
                );
            };
            AuthToken { header: basic_header(user, password)?, until: None }
        };
        let header = token.header.clone();
        *slot.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(header)
    }

    /// The error for an access that was refused with the best credential there is.
    pub(crate) async fn refusal_error(&self, access: &AccessScope, said: &str) -> Result<Error> {
        let credential = self.find_credential(&access.server).await?;
        Ok(unauthorized_error(&access.server, credential.as_ref(), said))
    }

    async fn find_credential(&self, server: &str) -> Result<Option<Credential>> {
        let credentials = self.credentials.clone();
        let name = server.to_owned();
        // A credential helper is a program that may wait for a keyring.
        match tokio::task::spawn_blocking(move || credentials.find_credential(&name)).await {
            Ok(result) => result,
            Err(cause) => {
                Err(Error::Credentials { server: server.to_owned(), cause: cause.to_string() })
            }
        }
    }

    fn slot(&self, access: &AccessScope) -> Arc<TokenSlot> {
        // A token is for one scope: that of a pull must not be used for a push.
        let key = (access.server.clone(), access.scope.clone());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }
}

fn unauthorized_error(server: &str, credential: Option<&Credential>, said: &str) -> Error {
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

fn basic_header(user: &str, password: &str) -> Result<HeaderValue> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    secret_header(&text)
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Setup {
        what: "a credential cannot be sent".into(),
        cause: "it contains characters that an HTTP header may not have".into(),
    })?;
    // So that neither `Debug` nor HTTP/2's header compression keeps it.
    value.set_sensitive(true);
    Ok(value)
}

/// The response of a token server: `token` as distribution has it, or `access_token` as OAuth2 has it;
/// servers send either or both.
#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

async fn fetch_token(
    client: &Client,
    question: &AccessRefusal<'_>,
    challenge: &AuthChallenge,
    credential: Option<&Credential>,
) -> Result<AuthToken, SendError> {
    let access = question.access;
    let parameter = |name: &str| challenge.parameters.get(name).map_or("", String::as_str);
    let realm = parameter("realm");
    if realm.is_empty() {
        return Err(Error::Unauthorized {
            server: access.server.clone(),
            message: "its 401 response does not say where to get a token".into(),
            next: "contact the registry's operator".into(),
        }
        .into());
    }
    if credential.is_some() && leaks_credential(question.asked_by, realm) {
        return Err(Error::Unauthorized {
            server: access.server.clone(),
            message: format!("it asks for credentials at {realm}, without TLS"),
            next: "no credential was sent there; contact the registry's operator".into(),
        }
        .into());
    }
    // The scope of the request, not that of the challenge: a registry may challenge with less, such
    // as pull alone for an upload.
    let scope = if access.scope.is_empty() { parameter("scope") } else { &access.scope };
    let request = match credential {
        Some(Credential::IdentityToken(token)) => {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", parameter("service"))
                .append_pair("client_id", "gantry")
                .append_pair("scope", scope)
                .append_pair("refresh_token", token)
                .finish();
            HttpRequest::new(Method::POST, realm)?
                .header(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                )
                .body(RequestBody::Bytes(form.into()))
        }
        other => {
            let mut request = HttpRequest::get(realm)?;
            if !parameter("service").is_empty() {
                request = request.query("service", parameter("service"));
            }
            // Several scopes are sent as several parameters.
            for one in scope.split(' ').filter(|one| !one.is_empty()) {
                request = request.query("scope", one);
            }
            if let Some(Credential::Password { user, password }) = other {
                request = request.header(header::AUTHORIZATION, basic_header(user, password)?);
            }
            request
        }
    };
    // Boxed: `send_once` calls this function for its own 401, so the future would contain itself.
    let response = Box::pin(client.send_once(&request)).await?;
    let response = match response.status() {
        // Token servers respond to a wrong password with any of these three.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            return Err(token_refusal_error(access, credential, response).await.into());
        }
        status if RetryPolicy::is_temporary(status) => {
            let headers = response.headers().clone();
            let cause =
                format!("the token server: {}", describe_status(&response.into_error().await));
            let failure =
                FailedAttempt { headers: Some(headers), ..FailedAttempt::from_cause(cause) };
            return Err(SendError::Temporary(failure));
        }
        _ => response.require_success().await?,
    };
    let body = response.read_bytes(MOST_TOKEN_BYTES).await?;
    let answer: TokenResponse = serde_json::from_slice(&body).map_err(|cause| Error::Setup {
        what: format!("the token server {} returned no token", request.redacted_url()),
        cause: cause.to_string(),
    })?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(Error::Setup {
            what: format!("the token server {} returned no token", request.redacted_url()),
            cause: "its response has neither token nor access_token".into(),
        }
        .into());
    }
    let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    Ok(AuthToken {
        header: secret_header(&format!("Bearer {token}"))?,
        until: Some(Instant::now() + life.saturating_sub(MARGIN)),
    })
}

/// Whether a credential would be sent in clear text: the token server has no TLS although the registry
/// has, and is not on this machine.
fn leaks_credential(asked_by: &Url, realm: &str) -> bool {
    let Ok(realm) = realm.parse::<Url>() else { return false };
    asked_by.scheme() == "https"
        && realm.scheme() == "http"
        && !realm.host_str().is_some_and(is_loopback)
}

async fn token_refusal_error(
    access: &AccessScope,
    credential: Option<&Credential>,
    response: HttpResponse,
) -> Error {
    let said = match response.into_error().await {
        Error::Status { message, .. } => message,
        other => other.to_string(),
    };
    unauthorized_error(&access.server, credential, &said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_challenges_with_quoted_commas_are_told_apart() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push", Basic realm="x""#;
        let challenges = AuthChallenge::parse(text);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(challenges[1].scheme, "basic");
        assert_eq!(challenges[1].parameters["realm"], "x");
        assert_eq!(AuthChallenge::parse("Negotiate")[0].scheme, "negotiate");
    }
}
