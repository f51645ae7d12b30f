//! What can go wrong with an upload, by what can be done about it, and how often it went wrong.

use std::time::Instant;

use net::HttpRequest;
use types::Cause;

use crate::Error;

/// A failed request of an upload.
pub(super) enum UploadFailure {
    /// The connection broke, or the registry had a fault of its own: it is asked what it has.
    Cut(Cause),
    /// The registry has lost the session (it was restarted, or has put it off), or what it holds is
    /// not the beginning of the blob: the upload starts again.
    Lost(Cause),
    /// A proxy takes no body of this length (413).
    TooLong(Error),
    /// The registry knows no uploads in pieces.
    NoPieces(Cause),
    /// Another attempt would fail as this one did.
    Final(Error),
}

impl UploadFailure {
    /// Sorts an error. `is_straight` says that all bytes were sent without an interruption.
    pub(super) fn from_error(error: Error, is_straight: bool) -> Self {
        let Error::Net { cause, .. } = &error else {
            return match &error {
                Error::UploadOffset { .. } => Self::Lost(error.to_string().into()),
                _ => Self::Final(error),
            };
        };
        match cause {
            net::Error::Request { attempts, .. } => {
                Self::Cut(attempts.last().map_or_else(|| "".into(), |last| last.cause.clone()))
            }
            net::Error::Status { status: 413, .. } => Self::TooLong(error),
            net::Error::Status { status: 404 | 416, message, .. } => {
                Self::Lost(format!("the registry lost the upload ({message})").into())
            }
            net::Error::Status { status: 400, message, .. }
                if ["BLOB_UPLOAD_", "RANGE_INVALID"].iter().any(|code| message.contains(code)) =>
            {
                Self::Lost(format!("the registry lost the upload ({message})").into())
            }
            // After an interruption the registry may have miscounted, which shows at the end.
            net::Error::Status { status: 400, message, .. }
                if message.contains("DIGEST_INVALID") && !is_straight =>
            {
                Self::Lost(format!("the resumed parts did not fit together ({message})").into())
            }
            net::Error::Status { method, status: 400 | 405 | 411 | 415 | 501, .. }
                if method == "PATCH" =>
            {
                Self::NoPieces(error.to_string().into())
            }
            _ => Self::Final(error),
        }
    }
}

/// The interruptions of one upload so far, for the decision to go on and for the final error.
pub(super) struct UploadInterruptions {
    started: Instant,
    in_a_row: u32,
    attempts: Vec<net::RequestAttempt>,
}

impl UploadInterruptions {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), in_a_row: 0, attempts: Vec::new() }
    }

    /// Notes an interruption.
    pub(super) fn record(&mut self, cause: Cause) {
        self.in_a_row += 1;
        self.attempts.push(net::RequestAttempt { after: self.started.elapsed(), cause });
    }

    /// The upload went on: only attempts without any gain count.
    pub(super) fn forgive(&mut self) {
        self.in_a_row = 0;
    }

    /// How many attempts there were without any gain.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// The error of an upload that is given up, with its history.
    pub(super) fn into_error(self, what: String, session: &HttpRequest) -> Error {
        let (method, url, attempts) = ("PUT".to_owned(), session.redacted_url(), self.attempts);
        Error::Net {
            what,
            cause: net::Error::Request { method, url, attempts, unreachable: false },
        }
    }
}
