//! The name server itself: it answers every question with NXDOMAIN, and records who asked.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::message;
use super::probe;
use super::probe::{ForwardingProbes, QuestionOwner};
use crate::observer::{DnsQuery, ObservationMethod, ObserverMessage, ObserverOutput};
use crate::tally::{MOST, SightingTally};
use crate::{Error, Result};

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

/// A sink that is bound to its address, over UDP and TCP.
pub struct DnsSink {
    udp: UdpSocket,
    tcp: TcpListener,
    state: Arc<SinkState>,
}

/// What the tasks of a sink share.
struct SinkState {
    queries: Mutex<SightingTally<DnsQuery>>,
    probes: Mutex<ForwardingProbes>,
    output: ObserverOutput,
}

impl DnsSink {
    /// Binds to an address. `probe` are the name servers that it tests, to know whether they forward.
    pub async fn bind(
        address: SocketAddr,
        probe: &[SocketAddr],
        tell: ObserverOutput,
    ) -> Result<Self> {
        let failed = |source: io::Error| Error::Listen { address, source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        // With port 0 the system chooses one; UDP has to get the same.
        let address = tcp.local_addr().map_err(failed)?;
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        let state = SinkState {
            queries: Mutex::new(SightingTally::new(MOST)),
            probes: Mutex::new(ForwardingProbes::new(probe)),
            output: tell,
        };
        Ok(Self { udp, tcp, state: Arc::new(state) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> Result<SocketAddr> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        self.tcp.local_addr().map_err(|source| Error::Listen { address: any, source })
    }

    /// Answers questions until `stop` completes, then reports what was not reported yet.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        (self.state.output)(ObserverMessage::Ready {
            source: ObservationMethod::Dns,
            reason: None,
        });
        let datagrams = serve_datagrams(&self.udp, &self.state);
        let connections = serve_connections(&self.tcp, &self.state);
        tokio::select! {
            () = datagrams => {}
            () = connections => {}
            () = probe::run_probes(&self.state.probes, &self.state.output) => {}
            () = report_periodically(&self.state) => {}
            () = stop => {}
        }
        let rest = self.state.lock_queries().take_unreported();
        self.state.send_queries(rest);
    }
}

impl SinkState {
    fn lock_queries(&self) -> std::sync::MutexGuard<'_, SightingTally<DnsQuery>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends questions with their counts.
    fn send_queries(&self, queries: Vec<(DnsQuery, crate::tally::Sightings)>) {
        for (query, seen) in queries {
            (self.output)(ObserverMessage::Query { query, seen });
        }
    }

    /// Counts the questions of a message and returns the answer.
    fn answer_message(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let asked = message::read_question(bytes)?;
        for query in asked.queries {
            let back = {
                let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
                probes.note_question(&query.name)
            };
            // A test question of the sink's own is nobody's attempt.
            if let QuestionOwner::Own(line) = back {
                if let Some(line) = line {
                    (self.output)(line);
                }
                continue;
            }
            let new = self.lock_queries().add_sighting(&query);
            if let Some(seen) = new {
                (self.output)(ObserverMessage::Query { query, seen });
            }
        }
        Some(asked.answer)
    }
}

/// Serves UDP.
async fn serve_datagrams(socket: &UdpSocket, state: &SinkState) {
    let mut buffer = [0; LARGEST];
    loop {
        // An error is about one earlier answer (ICMP "port unreachable"): the socket is still good.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if let Some(answer) = state.answer_message(&buffer[..length]) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

/// Serves TCP.
async fn serve_connections(listener: &TcpListener, state: &Arc<SinkState>) {
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
            let _ = serve_connection(stream, &state).await;
            drop(permit);
        });
    }
}

/// Serves one TCP connection: several messages, each after its length (RFC 7766).
async fn serve_connection(mut stream: TcpStream, state: &SinkState) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        // No resolver asks with so much: the connection is closed without an answer.
        if usize::from(length) > LARGEST {
            return Ok(());
        }
        let mut bytes = vec![0; length.into()];
        tokio::time::timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let Some(answer) = state.answer_message(&bytes) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(answer);
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// Reports what is due, again and again.
async fn report_periodically(state: &SinkState) {
    let mut left_out = 0;
    loop {
        tokio::time::sleep(BEAT).await;
        let (due, now_left_out) = {
            let mut queries = state.lock_queries();
            (queries.take_due(), queries.left_out())
        };
        state.send_queries(due);
        // Reported when the count has doubled: a flood of names must not become a flood of messages.
        if now_left_out > left_out.max(1) * 2 - 1 {
            left_out = now_left_out;
            (state.output)(ObserverMessage::LeftOut { count: left_out });
        }
    }
}
