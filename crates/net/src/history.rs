//! The attempts of one request: counts them, waits between them, and lists them in the error when it
//! gives up.

use std::time::Instant;

use crate::attempt::FailedAttempt;
use crate::{Error, HttpRequest, RequestAttempt, Result, RetryPolicy};

/// The attempts of one request.
pub(crate) struct AttemptHistory {
    method: String,
    url: String,
    started: Instant,
    attempts: Vec<RequestAttempt>,
    failures: u32,
}

/// How many attempts an error lists. A long download can be interrupted any number of times; only the
/// last ones say why it failed in the end.
const MOST_ATTEMPTS_TOLD: usize = 16;

impl AttemptHistory {
    pub(crate) fn new(request: &HttpRequest) -> Self {
        Self {
            method: request.method.to_string(),
            url: request.redacted_url(),
            started: Instant::now(),
            attempts: Vec::new(),
            failures: 0,
        }
    }

    /// Bytes arrived: the number of failures in a row starts at zero again.
    pub(crate) fn reset_failures(&mut self) {
        self.failures = 0;
    }

    /// Records a failed attempt. Waits until the next one may start, or returns the error with all
    /// attempts when there may be none.
    pub(crate) async fn record_failure(
        &mut self,
        policy: &RetryPolicy,
        failure: FailedAttempt,
        may_repeat: bool,
    ) -> Result<()> {
        self.failures += 1;
        if self.attempts.len() == MOST_ATTEMPTS_TOLD {
            self.attempts.remove(0);
        }
        let cause = failure.cause;
        self.attempts.push(RequestAttempt { after: self.started.elapsed(), cause });
        let wait = policy.next_wait(self.failures, failure.headers.as_ref()).filter(|_| may_repeat);
        let Some(wait) = wait else {
            return Err(Error::Request {
                method: self.method.clone(),
                url: self.url.clone(),
                attempts: std::mem::take(&mut self.attempts),
                unreachable: failure.unreachable,
            });
        };
        if let Some(last) = self.attempts.last() {
            let (method, url, cause) = (&self.method, &self.url, &last.cause);
            tracing::info!(target: "gantry", "{method} {url}: {cause}; retrying in {wait:.1?}");
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
