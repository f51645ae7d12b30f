//! The retry policy: which failures are retried, how often, and after how long.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use rand::Rng;

/// When a request is retried. The defaults survive a short outage of a registry (a restart, a rate
/// limit), and give up on a dead one after about half a minute.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Attempts in all, including the first. A download starts to count again with every byte that
    /// arrives, so one over a slow line that fails every minute still completes.
    pub attempts: u32,
    /// The wait after the first failure; doubled each time.
    pub first_wait: Duration,
    /// The longest wait, unless the server asks for another by `Retry-After`.
    pub longest_wait: Duration,
    /// The longest `Retry-After` that is honoured. A server that asks for more is an error at once: a
    /// person should see that (Docker Hub's rate limit can ask for hours).
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(10),
            longest_retry_after: Duration::from_mins(2),
        }
    }
}

impl RetryPolicy {
    /// Whether a status means "try later": too many requests, or a failure of the server or of a proxy
    /// in front of it (520 to 529 are Cloudflare's). 501 and 505 mean "never".
    pub(crate) fn is_temporary(status: StatusCode) -> bool {
        matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=529)
    }

    /// How long to wait after the given failure (from 1), or `None` when it is not worth it.
    pub(crate) fn next_wait(&self, failures: u32, headers: Option<&HeaderMap>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        if let Some(asked) = headers.and_then(parse_retry_after) {
            return (asked <= self.longest_retry_after).then_some(asked);
        }
        let doubled = self.first_wait.saturating_mul(1 << (failures - 1).min(16));
        let capped = doubled.min(self.longest_wait);
        // Half fixed, half random: clients that failed at the same time do not retry at the same time.
        Some(capped.mul_f64(rand::rng().random_range(0.5..=1.0)))
    }
}

/// `Retry-After` in either of its forms (RFC 9110, 10.2.3).
pub(crate) fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    // A date in the past means "now", not an error.
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn retry_after_headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())])
    }

    #[test]
    fn a_server_that_says_when_is_believed_within_reason() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.next_wait(1, Some(&retry_after_headers("7"))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(policy.next_wait(1, Some(&retry_after_headers("86400"))), None);
        let past = policy.next_wait(1, Some(&retry_after_headers("Wed, 21 Oct 2015 07:28:00 GMT")));
        assert_eq!(past, Some(Duration::ZERO));
    }

    #[test]
    fn waits_grow_up_to_a_limit_and_end() {
        let policy = RetryPolicy::default();
        assert!(policy.next_wait(1, None).unwrap() <= policy.first_wait);
        assert!(policy.next_wait(5, None).unwrap() > policy.first_wait);
        assert_eq!(policy.next_wait(6, None), None);
    }
}
