//! Faults, and what a proxy remembers: the faults that it still has to cause, the requests it has seen.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A failure of one response.
///
/// Faults in a body apply only to successful responses to GET that are long enough for them; other
/// responses pass, and are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// The connection is closed after so many bytes of the body.
    Cut {
        /// Bytes of this answer's body that arrive.
        after: u64,
    },
    /// After so many bytes of the body nothing comes any more, on an open connection.
    Stall {
        /// Bytes of this answer's body that arrive.
        after: u64,
    },
    /// One byte of the body is changed: a server whose content does not match the digest.
    Flip {
        /// The offset in this response's body.
        at: u64,
    },
    /// The body comes at this rate.
    Slow {
        /// The rate.
        bytes_per_second: u64,
    },
    /// Any request is answered with this status, and is not passed on.
    Status {
        /// 429, 500, 503 and so on.
        code: u16,
        /// The header `Retry-After`, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// The connection of any request is closed without an answer.
    Drop,
}

/// How many matching requests a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultRepeats {
    /// So often.
    Exactly(usize),
    /// Every time.
    Always,
}

/// A request that the proxy has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// `GET`.
    pub method: String,
    /// Path and query: `/v2/library/nginx/manifests/1.22`.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// Whether it carried the header `Authorization`.
    pub is_authorized: bool,
    /// The status that was answered; `None` while there is no answer, and when there was none.
    pub status: Option<u16>,
    /// The fault that befell it.
    pub fault: Option<WireFault>,
    /// Bytes of the body that went out to the client. When it is killed, some of them (a socket's
    /// buffer, at most) have not reached it.
    pub sent: u64,
    /// Bytes of the request's body that came from the client.
    pub received: u64,
}

impl SeenRequest {
    /// The first byte that a `Range` asks for; 0 without one.
    pub fn range_start(&self) -> u64 {
        let range = self.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug)]
pub(super) struct FaultProxyState {
    pub(super) upstream: String,
    pub(super) rules: Mutex<Vec<FaultRule>>,
    pub(super) requests: Mutex<Vec<SeenRequest>>,
}

#[derive(Debug)]
pub(super) struct FaultRule {
    pub(super) part: String,
    pub(super) fault: WireFault,
    pub(super) times: FaultRepeats,
}

impl FaultProxyState {
    pub(super) fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().expect("nothing panics while it holds the rules")
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Vec<SeenRequest>> {
        self.requests.lock().expect("nothing panics while it holds the requests")
    }

    /// Takes the first fault for a path that `fits`, and counts it.
    pub(super) fn take_fault(
        &self,
        path: &str,
        fits: impl Fn(&WireFault) -> bool,
    ) -> Option<WireFault> {
        let mut rules = self.rules();
        let rule = rules.iter_mut().find(|rule| {
            rule.times != FaultRepeats::Exactly(0) && path.contains(&rule.part) && fits(&rule.fault)
        })?;
        if let FaultRepeats::Exactly(left) = &mut rule.times {
            *left -= 1;
        }
        Some(rule.fault)
    }
}
