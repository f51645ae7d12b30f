//! The DNS sink: a name server that answers every question with NXDOMAIN and records who asked. During
//! an audit CoreDNS forwards to it all names that nothing in the cluster answers. It runs as a pod of
//! Gantry's own image, or in the audit's process at an address of this machine; what it saw it reports
//! as [`ObserverMessage`]s.

pub(crate) mod message;
mod probe;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::line::{Line, Query, Source};
use crate::tally::{MOST, Tally};
use crate::{Error, Result};
use probe::{Back, Probes};

/// The port that the sink listens on: above 1024, so that it needs no capability.
pub const PORT: u16 = 5353;
/// The largest question that is read, in bytes: far above any that a resolver sends.
const LARGEST: usize = 4096;
/// How many TCP connections are served at the same time; further ones wait.
const CONNECTIONS: usize = 64;
/// How long a TCP connection may be idle.
const IDLE: Duration = Duration::from_secs(5);
/// How often due reports are sent.
const BEAT: Duration = Duration::from_millis(250);

/// Where an observer's messages go: standard output, or the audit in the same process.
pub type Tell = Arc<dyn Fn(Line) + Send + Sync>;

/// A sink that is bound to its address, over UDP and TCP.
pub struct Sink {
    udp: UdpSocket,
    tcp: TcpListener,
    state: Arc<State>,
}

/// What the tasks of a sink share.
struct State {
    queries: Mutex<Tally<Query>>,
    probes: Mutex<Probes>,
    tell: Tell,
}

impl Sink {
    /// Binds to an address. `probe` are the name servers that it tests, to know whether they forward.
    pub async fn bind(address: SocketAddr, probe: &[SocketAddr], tell: Tell) -> Result<Self> {
        let failed = |cause: io::Error| Error::Listen { address, cause };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        // With port 0 the system chooses one; UDP has to get the same.
        let address = tcp.local_addr().map_err(failed)?;
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        let state = State {
            queries: Mutex::new(Tally::new(MOST)),
            probes: Mutex::new(Probes::new(probe)),
            tell,
        };
        Ok(Self { udp, tcp, state: Arc::new(state) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> Result<SocketAddr> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        self.tcp.local_addr().map_err(|cause| Error::Listen { address: any, cause })
    }

    /// Answers questions until `stop` completes, then reports what was not reported yet.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        (self.state.tell)(Line::Ready { source: Source::Dns, reason: None });
        let datagrams = datagrams(&self.udp, &self.state);
        let connections = connections(&self.tcp, &self.state);
        tokio::select! {
            () = datagrams => {}
            () = connections => {}
            () = probe::ask(&self.state.probes, &self.state.tell) => {}
            () = beat(&self.state) => {}
            () = stop => {}
        }
        let rest = self.state.lock().rest();
        self.state.told(rest);
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tally<Query>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends questions with their counts.
    fn told(&self, queries: Vec<(Query, crate::tally::Seen)>) {
        for (query, seen) in queries {
            (self.tell)(Line::Query { query, seen });
        }
    }

    /// Counts the questions of a message and returns the answer.
    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let asked = message::read(bytes)?;
        for query in asked.queries {
            let back = {
                let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
                probes.came_back(&query.name)
            };
            // A test question of the sink's own is nobody's attempt.
            if let Back::Own(line) = back {
                if let Some(line) = line {
                    (self.tell)(line);
                }
                continue;
            }
            let new = self.lock().note(&query);
            if let Some(seen) = new {
                (self.tell)(Line::Query { query, seen });
            }
        }
        Some(asked.answer)
    }
}

/// Serves UDP.
async fn datagrams(socket: &UdpSocket, state: &State) {
    let mut buffer = [0; LARGEST];
    loop {
        // An error is about one earlier answer (ICMP "port unreachable"): the socket is still good.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if let Some(answer) = state.answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

/// Serves TCP.
async fn connections(listener: &TcpListener, state: &Arc<State>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // A permit before `accept`: further connections wait in the kernel's queue, not in our memory.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: other connections end soon.
            tokio::time::sleep(BEAT).await;
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            let _ = connection(stream, &state).await;
            drop(permit);
        });
    }
}

/// Serves one TCP connection: several messages, each after its length (RFC 7766).
async fn connection(mut stream: TcpStream, state: &State) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        // No resolver asks with so much: the connection is closed without an answer.
        if usize::from(length) > LARGEST {
            return Ok(());
        }
        let mut bytes = vec![0; length.into()];
        tokio::time::timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let Some(answer) = state.answer(&bytes) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(answer);
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// Reports what is due, again and again.
async fn beat(state: &State) {
    let mut left_out = 0;
    loop {
        tokio::time::sleep(BEAT).await;
        let (due, now_left_out) = {
            let mut queries = state.lock();
            (queries.due(), queries.left_out())
        };
        state.told(due);
        // Reported when the count has doubled: a flood of names must not become a flood of messages.
        if now_left_out > left_out.max(1) * 2 - 1 {
            left_out = now_left_out;
            (state.tell)(Line::LeftOut { count: left_out });
        }
    }
}
