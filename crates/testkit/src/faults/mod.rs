//! Network failures: a proxy in front of any server, which cuts, stalls, slows, refuses and
//! falsifies on demand, and remembers every request, so that a test can tell what was fetched
//! twice.
//!
//! ```no_run
//! # use gantry_testkit::{faults::{Fault, Times}, Faults, Registry};
//! let registry = Registry::start();
//! let faults = Faults::before(&registry.url());
//! faults.on("/blobs/", Fault::Cut { after: 1 << 20 }, Times::Exactly(2));
//! // … a client works against faults.url() …
//! assert_eq!(faults.requests().iter().filter(|request| request.start() > 0).count(), 2);
//! ```

mod proxy;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Runtime;

/// A proxy on a free port of loopback that causes failures; closed on drop.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<FaultProxyState>,
    runtime: Option<Runtime>,
}

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
}

impl SeenRequest {
    /// The first byte that a `Range` asks for; 0 without one.
    pub fn range_start(&self) -> u64 {
        let range = self.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug)]
struct FaultProxyState {
    upstream: String,
    rules: Mutex<Vec<FaultRule>>,
    requests: Mutex<Vec<SeenRequest>>,
}

#[derive(Debug)]
struct FaultRule {
    part: String,
    fault: WireFault,
    times: FaultRepeats,
}

impl FaultProxy {
    /// Starts a proxy in front of a server (`http://127.0.0.1:5000`). Until a fault is added, it only
    /// forwards and records requests.
    pub fn in_front_of(upstream: &str) -> Self {
        let state = Arc::new(FaultProxyState {
            upstream: upstream.trim_end_matches('/').to_owned(),
            rules: Mutex::default(),
            requests: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        // On a thread of its own: the test may run on a runtime already.
        let address = std::thread::scope(|scope| {
            let listening =
                scope.spawn(|| runtime.block_on(proxy::listen_on_loopback(Arc::clone(&state))));
            listening.join().expect("loopback can be listened on")
        });
        Self { address, state, runtime: Some(runtime) }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a fault for requests whose path and query contain `part`. Of several faults that match,
    /// the one that was added first is used up first.
    pub fn inject(&self, part: &str, fault: WireFault, times: FaultRepeats) {
        self.state.rules().push(FaultRule { part: part.to_owned(), fault, times });
    }

    /// Removes all faults.
    pub fn remove_faults(&self) {
        self.state.rules().clear();
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state.requests().clone()
    }

    /// Bytes of bodies that went out for paths that contain `part`.
    pub fn sent_bytes(&self, part: &str) -> u64 {
        let requests = self.state.requests();
        requests.iter().filter(|request| request.path.contains(part)).map(|one| one.sent).sum()
    }

    /// Forgets all requests so far.
    pub fn forget_requests(&self) {
        self.state.requests().clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A stalled answer would be waited for without end.
            runtime.shutdown_background();
        }
    }
}

// === impl State ===

impl FaultProxyState {
    fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().expect("nothing panics while it holds the rules")
    }

    fn requests(&self) -> MutexGuard<'_, Vec<SeenRequest>> {
        self.requests.lock().expect("nothing panics while it holds the requests")
    }

    /// Takes the first fault for a path that `fits`, and counts it.
    fn take_fault(&self, path: &str, fits: impl Fn(&WireFault) -> bool) -> Option<WireFault> {
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
