//! Answering a registry's challenge: Basic, or a token from the realm that it names
//! (distribution's token specification, and OAuth2 for identity tokens).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use url::Url;

use crate::client::{Failure, SendError, answer};
use crate::mirrors::is_loopback;
use crate::request::Body;
use crate::{
    Access, Client, Credential, Credentials, Error, Request, Response, Result, RetryPolicy,
};

/// A token is given up this long before it ends, so that it does not end on the way.
const MARGIN: Duration = Duration::from_secs(10);
/// What a token lives where the server does not say (distribution: "at least 60 seconds").
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
/// A token's answer is small.
const MOST_TOKEN_BYTES: u64 = 1 << 20;

/// A challenge of a `WWW-Authenticate` header (RFC 9110, 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `bearer`, `basic`, in lower case.
    pub scheme: String,
    /// The parameters, names in lower case.
    pub parameters: HashMap<String, String>,
}

impl Challenge {
    /// All challenges of one header value. Several may stand in one header, and quoted values may
    /// hold commas.
    pub fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        for item in split_quoted(text) {
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
                let value = unquote(value);
                challenge.parameters.insert(name.to_ascii_lowercase(), value);
            }
        }
        challenges
    }
}

/// A token, or a quoted string without its quotes and escapes (RFC 9110, 5.6.4).
fn unquote(text: &str) -> String {
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

/// Splits at commas that stand outside of quotes.
fn split_quoted(text: &str) -> Vec<&str> {
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

/// A refusal that asks for a credential.
pub(crate) struct Question<'a> {
    /// What was to be accessed.
    pub(crate) access: &'a Access,
    /// The address that refused.
    pub(crate) asked_by: &'a Url,
    /// The values of its `WWW-Authenticate`.
    pub(crate) challenges: &'a [String],
    /// Its words.
    pub(crate) said: &'a str,
}

/// Tokens by what they are for. Callers that need the same one share one request for it.
pub(crate) struct Tokens {
    credentials: Credentials,
    slots: Mutex<HashMap<(String, String), Arc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    current: Mutex<Option<Token>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Option<Instant>,
}

impl Token {
    fn is_alive(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Tokens {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, slots: Mutex::new(HashMap::new()) }
    }

    /// The header for an access that was answered before.
    pub(crate) fn known(&self, access: &Access) -> Option<HeaderValue> {
        let slot = self.slot(access);
        let current = slot.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|token| token.is_alive()).map(|token| token.header.clone())
    }

    /// Drops a header that was refused, unless another caller has a newer one already.
    pub(crate) fn forget(&self, access: &Access, refused: &HeaderValue) {
        let slot = self.slot(access);
        let mut current = slot.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|token| token.header == *refused) {
            *current = None;
        }
    }

    /// The header that answers a challenge.
    pub(crate) async fn answer(
        &self,
        client: &Client,
        question: &Question<'_>,
    ) -> Result<HeaderValue, SendError> {
        let access = question.access;
        let slot = self.slot(access);
        let _turn = slot.turn.lock().await;
        // Whoever had the turn before may have asked for the same.
        if let Some(header) = self.known(access) {
            return Ok(header);
        }
        let credential = self.credential(&access.server).await?;
        let challenges: Vec<Challenge> =
            question.challenges.iter().flat_map(|text| Challenge::parse(text)).collect();
        let by_scheme = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        let token = if let Some(challenge) = by_scheme("bearer") {
            fetch_token(client, question, challenge, credential.as_ref()).await?
        } else {
            let Some(Credential::Password { user, password }) = &credential else {
                return Err(refused(&access.server, credential.as_ref(), question.said).into());
            };
            Token { header: basic(user, password)?, until: None }
        };
        let header = token.header.clone();
        *slot.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(header)
    }

    /// The error for an access that was refused with the best credential there is.
    pub(crate) async fn refused(&self, access: &Access, said: &str) -> Result<Error> {
        let credential = self.credential(&access.server).await?;
        Ok(refused(&access.server, credential.as_ref(), said))
    }

    async fn credential(&self, server: &str) -> Result<Option<Credential>> {
        let credentials = self.credentials.clone();
        let name = server.to_owned();
        match tokio::task::spawn_blocking(move || credentials.find(&name)).await {
            Ok(result) => result,
            Err(cause) => {
                Err(Error::Credentials { server: server.to_owned(), cause: cause.to_string() })
            }
        }
    }

    fn slot(&self, access: &Access) -> Arc<Slot> {
        let key = (access.server.clone(), access.scope.clone());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }
}

fn refused(server: &str, credential: Option<&Credential>, said: &str) -> Error {
    let shown = if server.contains("docker.io") { "" } else { server };
    let login = format!("docker login {shown}");
    let login = login.trim_end();
    Error::Unauthorized {
        server: server.to_owned(),
        message: said.to_owned(),
        next: match credential {
            None => format!("no credential was found for it; run: {login} (or skopeo login)"),
            Some(credential) => format!(
                "the credential of {} was not taken, or may not do this; check it and run: {login}",
                credential.user()
            ),
        },
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    secret(&text)
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Setup {
        what: "a credential cannot be sent".into(),
        cause: "it has characters that no header may have".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The answer of a token server: `token` in distribution's form, `access_token` in OAuth2's.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

async fn fetch_token(
    client: &Client,
    question: &Question<'_>,
    challenge: &Challenge,
    credential: Option<&Credential>,
) -> Result<Token, SendError> {
    let access = question.access;
    let parameter = |name: &str| challenge.parameters.get(name).map_or("", String::as_str);
    let realm = parameter("realm");
    if realm.is_empty() {
        return Err(Error::Unauthorized {
            server: access.server.clone(),
            message: "its challenge names no realm".into(),
            next: "tell the registry's operator".into(),
        }
        .into());
    }
    if credential.is_some() && gives_secret_away(question.asked_by, realm) {
        return Err(Error::Unauthorized {
            server: access.server.clone(),
            message: format!("it sends its users to {realm}, without TLS"),
            next: "no secret is sent there; tell the registry's operator".into(),
        }
        .into());
    }
    // What we need, not what the challenge says: a registry may challenge with less.
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
            Request::new(Method::POST, realm)?
                .header(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                )
                .body(Body::Bytes(form.into()))
        }
        other => {
            let mut request = Request::get(realm)?;
            if !parameter("service").is_empty() {
                request = request.query("service", parameter("service"));
            }
            // Several scopes come in several parameters.
            for one in scope.split(' ').filter(|one| !one.is_empty()) {
                request = request.query("scope", one);
            }
            if let Some(Credential::Password { user, password }) = other {
                request = request.header(header::AUTHORIZATION, basic(user, password)?);
            }
            request
        }
    };
    let response = Box::pin(client.send_once(&request)).await?;
    let response = match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            return Err(token_refused(access, credential, response).await.into());
        }
        status if RetryPolicy::is_temporary(status) => {
            let headers = response.headers().clone();
            let cause = format!("the token server: {}", answer(&response.into_error().await));
            let failure = Failure { headers: Some(headers), ..Failure::of(cause) };
            return Err(SendError::Temporary(failure));
        }
        _ => response.success().await?,
    };
    let body = response.bytes(MOST_TOKEN_BYTES).await?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|cause| Error::Setup {
        what: format!("the token server {} answered no token", request.shown()),
        cause: cause.to_string(),
    })?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(Error::Setup {
            what: format!("the token server {} answered no token", request.shown()),
            cause: "neither token nor access_token is in its answer".into(),
        }
        .into());
    }
    let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
    Ok(Token {
        header: secret(&format!("Bearer {token}"))?,
        until: Some(Instant::now() + life.saturating_sub(MARGIN)),
    })
}

/// Whether a realm is without TLS although the registry has it, and not on this machine.
fn gives_secret_away(asked_by: &Url, realm: &str) -> bool {
    let Ok(realm) = realm.parse::<Url>() else { return false };
    asked_by.scheme() == "https"
        && realm.scheme() == "http"
        && !realm.host_str().is_some_and(is_loopback)
}

async fn token_refused(
    access: &Access,
    credential: Option<&Credential>,
    response: Response,
) -> Error {
    let said = match response.into_error().await {
        Error::Status { message, .. } => message,
        other => other.to_string(),
    };
    refused(&access.server, credential, &said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_challenges_with_quoted_commas_are_told_apart() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push", Basic realm="x""#;
        let challenges = Challenge::parse(text);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(challenges[1].scheme, "basic");
        assert_eq!(challenges[1].parameters["realm"], "x");
        assert_eq!(Challenge::parse("Negotiate")[0].scheme, "negotiate");
    }
}
