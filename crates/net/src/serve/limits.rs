//! How many connections and requests a server takes, and how long each of their phases may last.

use std::time::Duration;

/// The limits of a server. Every phase of a connection has one, so that no client holds a place for good
/// by doing nothing.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Concurrent connections. When all are open, the one that has waited longest for a request is closed
    /// for a new one.
    pub connections: usize,
    /// The same, of one client address.
    pub connections_per_client: usize,
    /// Requests that are answered at the same time, their bodies included. Well below the number of
    /// connections, so that there is always one for a health check.
    pub requests: usize,
    /// The same, of one client address: a proxy's as well, which sends the requests of many.
    pub requests_per_client: usize,
    /// Requests beyond these that wait for their turn; further ones are answered 503 at once.
    pub waiting_requests: usize,
    /// How long such a request waits before it is answered 503.
    pub turn: Duration,
    /// The longest time for a TLS handshake; a client that needs more does not speak TLS.
    pub handshake: Duration,
    /// How long a new connection may send nothing.
    pub first_byte: Duration,
    /// How long the head of a request may take from its first byte to its last.
    pub head: Duration,
    /// How long a connection may be idle between two requests.
    pub idle: Duration,
    /// A client that takes none of a response for this long is gone. Not short: clients that unpack layers
    /// while they pull can pause for a while.
    pub stalled: Duration,
    /// The same while requests of other clients wait for their turn.
    pub stalled_under_load: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_client: 2048,
            requests: 1024,
            requests_per_client: 512,
            waiting_requests: 512,
            turn: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(15),
            head: Duration::from_secs(30),
            idle: Duration::from_mins(1),
            stalled: Duration::from_mins(5),
            stalled_under_load: Duration::from_secs(20),
        }
    }
}

impl ServerLimits {
    /// Files that the process opens beside connections: bundle files, blobs, the store.
    const OTHER_FILES: u64 = 256;

    /// Lowers the numbers to what the system lets this process open, after asking for as much as it
    /// allows. Most systems start programs with 1024 files and allow many more.
    pub(super) fn fit_to_system(&mut self) {
        let Some(files) = raise_file_limit() else { return };
        let most = files.saturating_sub(Self::OTHER_FILES).max(files / 2).max(8);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if self.connections > most {
            tracing::warn!(
                "at most {most} connections are open at the same time, since the system allows this \
                 process {files} open files; raise it with `ulimit -n`"
            );
            self.connections = most;
            self.requests = self.requests.min(most / 4);
            self.waiting_requests = self.waiting_requests.min(most / 8);
        }
    }
}

/// Raises the number of files that this process may open to the most that it may ask for; returns it,
/// or `None` where there is no limit.
#[cfg(unix)]
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

#[cfg(not(unix))]
fn raise_file_limit() -> Option<u64> {
    None
}
