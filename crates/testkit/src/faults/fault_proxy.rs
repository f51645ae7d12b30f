//! The handle of a running proxy: faults are added here, and requests read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::runtime::Runtime;

use super::proxy;
use super::wire_fault::{FaultProxyState, FaultRepeats, FaultRule, SeenRequest, WireFault};

/// A proxy on a free port of loopback that causes failures; closed on drop.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<FaultProxyState>,
    runtime: Option<Runtime>,
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

    /// Bytes of request bodies that came in for paths that contain `part`.
    pub fn received_bytes(&self, part: &str) -> u64 {
        let requests = self.requests();
        requests.iter().filter(|r| r.path.contains(part)).map(|request| request.received).sum()
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
