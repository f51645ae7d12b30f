//! Whether the name servers forward to the sink: the sink asks each of them for a name of its own
//! and waits for the question to come back. So a change that was not taken up yet, or was taken
//! back, is known and not guessed.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;

use super::Tell;
use crate::line::Line;

/// The zone of the names that are asked for: no such zone can exist (RFC 6761).
const ZONE: &str = "gantry-audit.invalid";
/// How often each name server is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long nothing has to come back until a name server counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// The name servers and what is known of each.
pub(super) struct Probes {
    /// What makes the names of this sink its own.
    token: String,
    servers: Vec<Server>,
}

/// Whose name was asked for.
pub(super) enum Back {
    /// The sink's own, with what is to be told of it.
    Own(Option<Line>),
    /// Somebody else's.
    Foreign,
}

struct Server {
    address: SocketAddr,
    /// When a question came back last, while they do.
    reached: Option<Instant>,
}

impl Probes {
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| Server { address: *address, reached: None };
        Self { token: crate::token(), servers: servers.iter().map(server).collect() }
    }

    /// Takes note of a question for one of the sink's own names, which is nobody's attempt.
    pub(super) fn came_back(&mut self, name: &str) -> Back {
        let Some(own) = name.strip_suffix(ZONE) else { return Back::Foreign };
        let own = own.strip_suffix('.').unwrap_or_default();
        // Of another sink, from another time.
        let Some((index, _)) = own.split_once('-').filter(|(_, token)| *token == self.token) else {
            return Back::Own(None);
        };
        let server = index.parse().ok().and_then(|index: usize| self.servers.get_mut(index));
        Back::Own(server.and_then(|server| {
            let is_new = server.reached.replace(Instant::now()).is_none();
            is_new.then_some(Line::Reached { server: server.address })
        }))
    }

    fn lost(&mut self) -> Vec<Line> {
        let lost = self.servers.iter_mut().filter_map(|server| {
            server.reached.take_if(|reached| reached.elapsed() > PATIENCE)?;
            Some(Line::Lost { server: server.address })
        });
        lost.collect()
    }

    fn questions(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let questions = self.servers.iter().enumerate().filter_map(|(index, server)| {
            let name = format!("{index}-{}.{ZONE}.", self.token);
            let mut message = Message::query();
            message.metadata.recursion_desired = true;
            message.add_query(Query::query(Name::from_ascii(name).ok()?, RecordType::A));
            Some((server.address, message.to_vec().ok()?))
        });
        questions.collect()
    }
}

/// Asks without end.
pub(super) async fn ask(probes: &Mutex<Probes>, tell: &Tell) {
    let lock = || probes.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(socket) = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).await else {
        return std::future::pending().await;
    };
    // Name servers with IPv6 addresses alone.
    let v6 = UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).await.ok();
    let mut answers = [0; 512];
    loop {
        let questions = lock().questions();
        for (server, question) in questions {
            let own = if server.is_ipv6() { v6.as_ref().unwrap_or(&socket) } else { &socket };
            let _ = own.send_to(&question, server).await;
        }
        tokio::time::sleep(INTERVAL).await;
        // The answers say nothing; they are read so that they do not pile up.
        while socket.try_recv(&mut answers).is_ok() {}
        while v6.as_ref().is_some_and(|v6| v6.try_recv(&mut answers).is_ok()) {}
        let lost = lock().lost();
        for line in lost {
            tell(line);
        }
    }
}
