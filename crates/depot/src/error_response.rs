//! The only place where errors of requests become responses. The errors are named by their meaning;
//! the status and the body, in the form of each endpoint's protocol, are chosen here.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

/// An error at the OCI endpoint (OCI Distribution Spec 1.1, "Error Codes").
pub(crate) enum OciError {
    NameUnknown(String),
    NameAmbiguous { name: String, candidates: Vec<String> },
    ManifestUnknown { name: String, version: String },
    BlobUnknown(String),
    DigestInvalid(String),
    ReadOnly,
    Broken(String),
}

impl IntoResponse for OciError {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::NameUnknown(name) => (
                StatusCode::NOT_FOUND,
                "NAME_UNKNOWN",
                format!("{name} is not in this depot; /v2/_catalog lists what it has"),
            ),
            Self::NameAmbiguous { name, candidates } => (
                StatusCode::NOT_FOUND,
                "NAME_UNKNOWN",
                format!("{name} could be any of {}; use the full name", candidates.join(", ")),
            ),
            Self::ManifestUnknown { name, version } => (
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                format!("{name} has no manifest {version} in this depot"),
            ),
            Self::BlobUnknown(digest) => {
                (StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("{digest} is not in this depot"))
            }
            Self::DigestInvalid(text) => (
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                format!(
                    "{text} is not a digest; it must be sha256: and 64 hex digits, or sha512: and 128"
                ),
            ),
            Self::ReadOnly => (
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this depot is read-only".to_owned(),
            ),
            Self::Broken(cause) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", cause),
        };
        let body = json!({ "errors": [{ "code": code, "message": message, "detail": null }] });
        add_allow_header((status, Json(body)).into_response(), READING)
    }
}

/// An error at the Hugging Face endpoint. Clients choose their exception by the header
/// `x-error-code` (huggingface_hub, `hf_raise_for_status`).
pub(crate) enum HubError {
    RepoNotFound(String),
    /// `known` are the revisions that the depot has.
    RevisionNotFound {
        id: String,
        revision: String,
        known: Vec<String>,
    },
    EntryNotFound {
        id: String,
        path: String,
        commit: String,
    },
    NotLoggedIn,
    BadRequest(String),
    NoSuchRoute,
    ReadOnly,
    PostOnly,
    /// The content cannot be read from the source.
    Broken(String),
}

const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
/// The commit that a response belongs to; clients name the snapshot folder in their cache by it.
pub(crate) const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

impl IntoResponse for HubError {
    fn into_response(self) -> Response {
        let mut commit_header = None;
        let mut methods = READING;
        let (status, code, message) = match self {
            Self::RepoNotFound(id) => {
                (StatusCode::NOT_FOUND, Some("RepoNotFound"), format!("{id} is not in this depot"))
            }
            Self::RevisionNotFound { id, revision, known } => (
                StatusCode::NOT_FOUND,
                Some("RevisionNotFound"),
                format!("{id} has no revision {revision} in this depot, only {}", known.join(", ")),
            ),
            Self::EntryNotFound { id, path, commit } => {
                let message = format!("{id} at {commit} has no {path} in this depot");
                // With the commit the client remembers in its cache that the file does not exist.
                commit_header = Some(commit);
                (StatusCode::NOT_FOUND, Some("EntryNotFound"), message)
            }
            Self::NotLoggedIn => (
                StatusCode::UNAUTHORIZED,
                None,
                "Invalid credentials in Authorization header".to_owned(),
            ),
            Self::BadRequest(reason) => (StatusCode::BAD_REQUEST, None, reason),
            Self::NoSuchRoute => {
                (StatusCode::NOT_FOUND, None, "this depot has no such path".to_owned())
            }
            Self::ReadOnly => {
                (StatusCode::METHOD_NOT_ALLOWED, None, "this depot is read-only".to_owned())
            }
            Self::PostOnly => {
                methods = "POST";
                (StatusCode::METHOD_NOT_ALLOWED, None, "this path takes POST only".to_owned())
            }
            Self::Broken(cause) => (StatusCode::INTERNAL_SERVER_ERROR, None, cause),
        };
        let mut response = (status, Json(json!({ "error": message }))).into_response();
        let headers = response.headers_mut();
        if let Some(code) = code {
            headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        }
        if let Some(value) = commit_header.and_then(|commit| commit.parse().ok()) {
            headers.insert(REPO_COMMIT, value);
        }
        if let Ok(value) = HeaderValue::from_str(&message) {
            headers.insert(ERROR_MESSAGE, value);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        add_allow_header(response, methods)
    }
}

/// The methods of a read-only server.
const READING: &str = "GET, HEAD";

/// Adds the header `Allow` to a 405, as RFC 9110, section 15.5.6 requires.
fn add_allow_header(mut response: Response, methods: &'static str) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}
