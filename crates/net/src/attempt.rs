//! How a single attempt of a request fails: for good, or in a way that another attempt may mend.

use http::HeaderMap;
use types::Cause;

use crate::Error;

/// How a single attempt failed.
pub(crate) enum SendError {
    /// Another attempt would fail as well.
    Final(Error),
    /// Another attempt may succeed.
    Temporary(FailedAttempt),
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A failed attempt that may be retried.
pub(crate) struct FailedAttempt {
    pub(crate) cause: Cause,
    pub(crate) unreachable: bool,
    /// Whether the server's answer was not HTTP.
    pub(crate) is_foreign_protocol: bool,
    /// The response's headers, for `Retry-After`; absent when there was no response.
    pub(crate) headers: Option<HeaderMap>,
}

impl FailedAttempt {
    pub(crate) fn from_cause(cause: impl Into<Cause>) -> Self {
        Self { cause: cause.into(), unreachable: false, is_foreign_protocol: false, headers: None }
    }
}

/// A response as the cause of a failed attempt: `status 503 (message)`.
pub(crate) fn describe_status(error: &Error) -> String {
    match error {
        Error::Status { status, message, .. } if message.is_empty() => format!("status {status}"),
        Error::Status { status, message, .. } => format!("status {status} ({message})"),
        other => other.to_string(),
    }
}
