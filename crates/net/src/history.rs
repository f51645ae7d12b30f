//! The attempts of one request: counts them, waits between them, and lists them in the error when it
//! gives up.

use std::time::Instant;

use crate::client::Failure;
use crate::{Attempt, Error, Request, Result, RetryPolicy};

/// The attempts of one request.
pub(crate) struct History {
    method: String,
    url: String,
    started: Instant,
    attempts: Vec<Attempt>,
    failures: u32,
}

/// How many attempts an error lists. A long download can be interrupted any number of times; only the
/// last ones say why it failed in the end.
const MOST_ATTEMPTS_TOLD: usize = 16;

impl History {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            method: request.method.to_string(),
            url: request.shown(),
            started: Instant::now(),
            attempts: Vec::new(),
            failures: 0,
        }
    }

    /// Bytes arrived: the number of failures in a row starts at zero again.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Records a failed attempt. Waits until the next one may start, or returns the error with all
    /// attempts when there may be none.
    pub(crate) async fn failed(
        &mut self,
        policy: &RetryPolicy,
        failure: Failure,
        may_repeat: bool,
    ) -> Result<()> {
        self.failures += 1;
        if self.attempts.len() == MOST_ATTEMPTS_TOLD {
            self.attempts.remove(0);
        }
        let cause = failure.cause;
        self.attempts.push(Attempt { after: self.started.elapsed(), cause });
        let wait = policy.wait(self.failures, failure.headers.as_ref()).filter(|_| may_repeat);
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
