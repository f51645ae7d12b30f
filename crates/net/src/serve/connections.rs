//! The open connections of a server: how many there are, of which client, in which phase each is, and
//! since when. One watch per connection closes it when its phase takes too long; when there is no room
//! for a new connection, the one that has waited longest for a request makes room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ServerLimits;

/// All open connections of a server.
pub(super) struct ConnectionTable {
    limits: ServerLimits,
    entries: Mutex<TableEntries>,
    /// Requests that wait for their turn.
    pub(super) waiting: AtomicUsize,
    /// The turns of all clients.
    pub(super) turns: Arc<Semaphore>,
    started: Instant,
}

#[derive(Default)]
struct TableEntries {
    next: u64,
    open: HashMap<u64, Arc<OpenConnection>>,
    clients: HashMap<IpAddr, ClientEntry>,
}

/// What is known of a client's address.
struct ClientEntry {
    connections: usize,
    turns: Arc<Semaphore>,
}

/// The state of one connection, which its stream and its requests keep up to date.
pub(super) struct OpenConnection {
    number: u64,
    client: IpAddr,
    table_start: Instant,
    /// The turns of its client.
    pub(super) client_turns: Arc<Semaphore>,
    /// Requests that are being answered, and responses of which the body is being sent.
    requests: AtomicUsize,
    bodies: AtomicUsize,
    /// Whether a write waits for the client.
    is_writing: AtomicBool,
    /// Times, in milliseconds from the start of the table.
    waiting_since: AtomicU64,
    /// When the first byte of the next request came; 0 before it.
    head_since: AtomicU64,
    progress_at: AtomicU64,
    has_served: AtomicBool,
    evicted: CancellationToken,
}

/// A connection's place in the table; gives it back when dropped.
pub(super) struct ConnectionPlace {
    table: Arc<ConnectionTable>,
    pub(super) connection: Arc<OpenConnection>,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.table.remove_connection(&self.connection);
    }
}

impl ConnectionTable {
    pub(super) fn new(limits: ServerLimits) -> Self {
        Self {
            entries: Mutex::default(),
            waiting: AtomicUsize::new(0),
            turns: Arc::new(Semaphore::new(limits.requests)),
            // One millisecond back, so that 0 can mean "never".
            started: Instant::now() - Duration::from_millis(1),
            limits,
        }
    }

    pub(super) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    /// Gives a new connection a place, if need be that of one that waits for a request; `None` when
    /// all of them are busy.
    pub(super) fn admit_connection(self: &Arc<Self>, client: IpAddr) -> Option<ConnectionPlace> {
        // An IPv4 client is one client, also at a socket for both.
        let client = client.to_canonical();
        let mut entries = self.lock_entries();
        let of_client = entries.clients.get(&client).map_or(0, |entry| entry.connections);
        if of_client >= self.limits.connections_per_client {
            entries.evict_idle(|connection| connection.client == client)?;
        }
        if entries.open.len() >= self.limits.connections {
            entries.evict_idle(|_| true)?;
        }
        let per_client = self.limits.requests_per_client;
        let entry = entries.clients.entry(client).or_insert_with(|| ClientEntry {
            connections: 0,
            turns: Arc::new(Semaphore::new(per_client)),
        });
        entry.connections += 1;
        let client_turns = Arc::clone(&entry.turns);
        let now = milliseconds_since(self.started);
        entries.next += 1;
        let connection = Arc::new(OpenConnection {
            number: entries.next,
            client,
            table_start: self.started,
            client_turns,
            requests: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            is_writing: AtomicBool::new(false),
            waiting_since: AtomicU64::new(now),
            head_since: AtomicU64::new(0),
            progress_at: AtomicU64::new(now),
            has_served: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        });
        entries.open.insert(connection.number, Arc::clone(&connection));
        Some(ConnectionPlace { table: Arc::clone(self), connection })
    }

    /// Completes with the reason when the connection is to be closed.
    pub(super) async fn watch_connection(&self, connection: &OpenConnection) -> &'static str {
        loop {
            let (left, reason) = self.time_left(connection);
            let Some(left) = left else { return reason };
            // A phase may be followed by one with an earlier end: look often enough for the shortest.
            let pause = left.min(self.limits.shortest_phase());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = connection.evicted.cancelled() => return "closed for a newer connection",
            }
        }
    }

    /// How long the present phase of a connection may still last, and what to say when it has lasted too
    /// long (`None`).
    fn time_left(&self, connection: &OpenConnection) -> (Option<Duration>, &'static str) {
        let now = milliseconds_since(self.started);
        let limits = &self.limits;
        let (since, most, reason) = if connection.is_sending() {
            let most = if self.waiting.load(Ordering::Relaxed) > 0 {
                limits.stalled_under_load
            } else {
                limits.stalled
            };
            (connection.progress_at.load(Ordering::Relaxed), most, "the client takes no data")
        } else if connection.requests.load(Ordering::Relaxed) > 0 {
            // The time until a response begins has its own limit.
            return (Some(limits.stalled), "");
        } else {
            match connection.head_since.load(Ordering::Relaxed) {
                0 if connection.has_served.load(Ordering::Relaxed) => {
                    let since = connection.waiting_since.load(Ordering::Relaxed);
                    (since, limits.idle, "no further request came")
                }
                0 => {
                    let since = connection.waiting_since.load(Ordering::Relaxed);
                    (since, limits.first_byte, "the client sent nothing")
                }
                since => (since, limits.head, "the head of the request took too long"),
            }
        };
        let spent = Duration::from_millis(now.saturating_sub(since));
        (most.checked_sub(spent).filter(|left| !left.is_zero()), reason)
    }

    fn remove_connection(&self, connection: &OpenConnection) {
        self.lock_entries().remove_connection(connection);
    }

    fn lock_entries(&self) -> MutexGuard<'_, TableEntries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableEntries {
    /// Closes the connection that has waited longest for a request, among those that `may` be closed;
    /// `None` when none waits.
    fn evict_idle(&mut self, may: impl Fn(&OpenConnection) -> bool) -> Option<()> {
        let idle = self.open.values().filter(|connection| connection.is_idle() && may(connection));
        let longest = idle.min_by_key(|connection| {
            (connection.waiting_since.load(Ordering::Relaxed), connection.number)
        })?;
        let longest = Arc::clone(longest);
        longest.evicted.cancel();
        // At once, and not when its task has ended: its place is needed now.
        self.remove_connection(&longest);
        Some(())
    }

    fn remove_connection(&mut self, connection: &OpenConnection) {
        // It may have been removed when it was evicted.
        if self.open.remove(&connection.number).is_none() {
            return;
        }
        if let Some(entry) = self.clients.get_mut(&connection.client) {
            entry.connections -= 1;
            if entry.connections == 0 {
                self.clients.remove(&connection.client);
            }
        }
    }
}

impl OpenConnection {
    /// A request's head is complete. The guard is to be kept until its response was sent.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.has_served.store(true, Ordering::Relaxed);
        self.record_progress();
        RequestGuard { connection: Arc::clone(self), has_body: false }
    }

    /// The next request may begin.
    pub(super) fn begin_waiting(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.waiting_since.store(milliseconds_since(self.table_start), Ordering::Relaxed);
    }

    /// The client took or sent bytes of what is being transferred.
    pub(super) fn record_progress(&self) {
        self.progress_at.store(milliseconds_since(self.table_start), Ordering::Relaxed);
    }

    /// Bytes came from the client.
    pub(super) fn record_received(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 {
            let now = milliseconds_since(self.table_start);
            let _ = self.head_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// A write waits for the client, or does not wait any more.
    pub(super) fn record_writing(&self, state: WriteState) {
        let is_waiting = state == WriteState::Waiting;
        if self.is_writing.swap(is_waiting, Ordering::Relaxed) != is_waiting && !is_waiting {
            // What was left of the last response has been taken only now.
            self.waiting_since.store(milliseconds_since(self.table_start), Ordering::Relaxed);
        }
    }

    fn is_sending(&self) -> bool {
        self.bodies.load(Ordering::Relaxed) > 0 || self.is_writing.load(Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && !self.is_writing.load(Ordering::Relaxed)
    }
}

/// Whether a write waits for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteState {
    Waiting,
    Done,
}

/// A request that is being answered, until it is dropped.
pub(super) struct RequestGuard {
    connection: Arc<OpenConnection>,
    has_body: bool,
}

impl RequestGuard {
    /// The response has begun; from here on the client has to take it.
    pub(super) fn begin_body(&mut self) {
        self.has_body = true;
        self.connection.bodies.fetch_add(1, Ordering::Relaxed);
        self.connection.record_progress();
    }

    /// The client took a part of the response.
    pub(super) fn record_progress(&self) {
        self.connection.record_progress();
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let connection = &self.connection;
        if self.has_body {
            connection.bodies.fetch_sub(1, Ordering::Relaxed);
        }
        connection.begin_waiting();
        connection.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ServerLimits {
    fn shortest_phase(&self) -> Duration {
        self.first_byte.min(self.head).min(self.idle).min(self.stalled_under_load)
    }
}

fn milliseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
