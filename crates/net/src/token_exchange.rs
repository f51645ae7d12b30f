//! Answers the challenge of a 401 by a password (Basic) or by a token from the server that the
//! challenge names (distribution's "Token Authentication Specification", and its OAuth2 variant for
//! identity tokens).
//!
//! ```text
//! GET /v2/a/b/manifests/1   401  WWW-Authenticate: Bearer realm="https://auth/token",service="r"
//! GET https://auth/token?service=r&scope=repository:a/b:pull   200  {"token": "…"}
//! GET /v2/a/b/manifests/1   with Authorization: Bearer …
//! ```

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use crate::attempt::{FailedAttempt, SendError, describe_status};
use crate::auth::AuthChallenge;
use crate::origin::RedirectPolicy;
use crate::request::RequestBody;
use crate::token_cache::{
    AccessRefusal, AuthToken, basic_header, secret_header, unauthorized_error,
};
use crate::token_scope::merge_scopes;
use crate::{
    AccessScope, Client, Credential, Error, HttpRequest, HttpResponse, Result, RetryPolicy,
};

/// A token is renewed this long before it expires, so that it does not expire during a request.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a token is valid where the server does not say: 60 seconds (distribution's token
/// specification, `expires_in`).
const DEFAULT_LIFE: Duration = Duration::from_mins(1);

/// The largest response of a token server that is read; real ones have a few kilobytes.
const MOST_TOKEN_BYTES: u64 = 1 << 20;

impl Client {
    /// The header that answers a challenge.
    pub(crate) async fn answer_challenge(
        &self,
        question: &AccessRefusal<'_>,
    ) -> Result<HeaderValue, SendError> {
        let access = question.access;
        let slot = self.tokens().slot(access);
        // One caller at a time per token: the others wait here and find the new one below.
        let _turn = slot.turn.lock().await;
        // Another caller may have fetched the token while this one waited for its turn.
        if let Some(header) = self.tokens().cached_header(access) {
            return Ok(header);
        }
        let credential = self.tokens().find_credential(access).await?;
        let challenges: Vec<AuthChallenge> =
            question.challenges.iter().flat_map(|text| AuthChallenge::parse(text)).collect();
        let by_scheme = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        // Bearer first: it is limited to the scope, and the password goes to the token server only.
        let token = if let Some(challenge) = by_scheme("bearer") {
            fetch_token(self, question, challenge, credential.as_ref()).await?
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
    if let (Some(_), Ok(address)) = (credential, realm.parse()) {
        // Here as well as for every request: an identity token is in the body.
        client.plain_http_servers().check_secret_to(&address)?;
    }
    let scope = merge_scopes(&access.scope, parameter("scope"));
    let request = match credential {
        Some(Credential::IdentityToken(token)) => {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", parameter("service"))
                .append_pair("client_id", "gantry")
                .append_pair("scope", &scope)
                .append_pair("refresh_token", token)
                .finish();
            HttpRequest::new(Method::POST, realm)?
                .header(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                )
                .body(RequestBody::Bytes(form.into()))
                // The identity token is in the body, which a redirect would carry to another server.
                .redirects(RedirectPolicy::SameOrigin)
        }
        other => {
            let mut request = HttpRequest::get(realm)?.redirects(RedirectPolicy::SameOrigin);
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
        cause: cause.into(),
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
