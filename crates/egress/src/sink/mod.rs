//! The DNS sink: a name server that knows no name and remembers who asked. CoreDNS forwards to it
//! what nobody in the cluster answers for. It runs as a pod of Gantry's own image, or inside the
//! audit itself at an address of this machine; what it saw is told as [`Line`]s.

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

/// The port that the sink listens on: one that needs no right.
pub const PORT: u16 = 5353;
/// The largest question that is read.
const LARGEST: usize = 4096;
/// How many connections are served at once.
const CONNECTIONS: usize = 64;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(5);
/// How often it is looked what is to be told.
const BEAT: Duration = Duration::from_millis(250);

/// Where lines go.
pub type Tell = Arc<dyn Fn(Line) + Send + Sync>;

/// A sink that is bound to its address.
pub struct Sink {
    udp: UdpSocket,
    tcp: TcpListener,
    state: Arc<State>,
}

struct State {
    queries: Mutex<Tally<Query>>,
    probes: Mutex<Probes>,
    tell: Tell,
}

impl Sink {
    /// Binds to an address. `probe` are the name servers that it asks, to know that they forward.
    pub async fn bind(address: SocketAddr, probe: &[SocketAddr], tell: Tell) -> Result<Self> {
        let failed = |cause: io::Error| Error::Listen { address, cause };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        // Port 0 is chosen once, for both.
        let address = tcp.local_addr().map_err(failed)?;
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        let state = State {
            queries: Mutex::new(Tally::new(MOST)),
            probes: Mutex::new(Probes::new(probe)),
            tell,
        };
        Ok(Self { udp, tcp, state: Arc::new(state) })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        self.tcp.local_addr().map_err(|cause| Error::Listen { address: any, cause })
    }

    /// Answers until it is dropped, or until `stop` is done; then tells what is left.
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

    fn told(&self, queries: Vec<(Query, crate::tally::Seen)>) {
        for (query, seen) in queries {
            (self.tell)(Line::Query { query, seen });
        }
    }

    /// Notes what was asked and gives the answer.
    fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let asked = message::read(bytes)?;
        for query in asked.queries {
            let back = {
                let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
                probes.came_back(&query.name)
            };
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

async fn datagrams(socket: &UdpSocket, state: &State) {
    let mut buffer = [0; LARGEST];
    loop {
        // An error belongs to one datagram (its sender is gone); the next is as good as ever.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if let Some(answer) = state.answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn connections(listener: &TcpListener, state: &Arc<State>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: others end soon.
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

/// RFC 7766: messages behind their lengths, several in one connection.
async fn connection(mut stream: TcpStream, state: &State) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
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

async fn beat(state: &State) {
    let mut left_out = 0;
    loop {
        tokio::time::sleep(BEAT).await;
        let (due, now_left_out) = {
            let mut queries = state.lock();
            (queries.due(), queries.left_out())
        };
        state.told(due);
        if now_left_out > left_out.max(1) * 2 - 1 {
            left_out = now_left_out;
            (state.tell)(Line::LeftOut { count: left_out });
        }
    }
}
