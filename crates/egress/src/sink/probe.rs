//! Tests whether the name servers forward to the sink: the sink asks each of them for a name of its own
//! and waits for the question to come back. So the audit knows, and does not guess, when CoreDNS has
//! reloaded the changed Corefile, and when it has gone back to the original.
//!
//! ```text
//! sink ── A? 0-k3x9….gantry-audit.invalid ──▶ CoreDNS pod 0 ── forwards ──▶ sink: pod 0 is reached
//! ```

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;

use crate::observer::{ObserverMessage, ObserverOutput};

/// The zone of the test names: `invalid` never exists (RFC 6761), so a server that does not forward yet
/// answers without asking anybody outside for a real name.
const ZONE: &str = "gantry-audit.invalid";
/// How often each name server is tested.
const INTERVAL: Duration = Duration::from_millis(500);
/// After so long without a question that came back, a name server counts as lost: six tests.
const PATIENCE: Duration = Duration::from_secs(3);

/// The name servers that are tested.
pub(super) struct ForwardingProbes {
    /// A random word in the test names of this sink, so that another sink's are not taken for its own.
    token: String,
    servers: Vec<ProbedServer>,
}

/// Whose question it was that came in.
pub(super) enum QuestionOwner {
    /// A test question of a sink, with the message to send when a server is reached for the first time.
    Own(Option<ObserverMessage>),
    /// A pod's.
    Foreign,
}

/// A name server that is tested.
struct ProbedServer {
    address: SocketAddr,
    /// When a test question came back last; absent while none do.
    reached: Option<Instant>,
}

impl ForwardingProbes {
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| ProbedServer { address: *address, reached: None };
        Self { token: random_token(), servers: servers.iter().map(server).collect() }
    }

    /// Recognises a test question by its name, and notes the server that forwarded it.
    pub(super) fn note_question(&mut self, name: &str) -> QuestionOwner {
        let Some(own) = name.strip_suffix(ZONE) else { return QuestionOwner::Foreign };
        let own = own.strip_suffix('.').unwrap_or_default();
        // A test question of another sink, perhaps of an earlier audit.
        let Some((index, _)) = own.split_once('-').filter(|(_, token)| *token == self.token) else {
            return QuestionOwner::Own(None);
        };
        let server = index.parse().ok().and_then(|index: usize| self.servers.get_mut(index));
        QuestionOwner::Own(server.and_then(|server| {
            let is_new = server.reached.replace(Instant::now()).is_none();
            is_new.then_some(ObserverMessage::Reached { server: server.address })
        }))
    }

    /// The servers that stopped forwarding since the last call.
    fn take_lost_servers(&mut self) -> Vec<ObserverMessage> {
        let lost = self.servers.iter_mut().filter_map(|server| {
            server.reached.take_if(|reached| reached.elapsed() > PATIENCE)?;
            Some(ObserverMessage::Lost { server: server.address })
        });
        lost.collect()
    }

    /// One test question for each server; the name has the server's place in the list.
    fn build_questions(&self) -> Vec<(SocketAddr, Vec<u8>)> {
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

/// Tests all servers again and again.
pub(super) async fn run_probes(probes: &Mutex<ForwardingProbes>, tell: &ObserverOutput) {
    let lock = || probes.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(socket) = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).await else {
        return std::future::pending().await;
    };
    // For name servers that have only an IPv6 address.
    let v6 = UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).await.ok();
    let mut answers = [0; 512];
    loop {
        let questions = lock().build_questions();
        for (server, question) in questions {
            let own = if server.is_ipv6() { v6.as_ref().unwrap_or(&socket) } else { &socket };
            let _ = own.send_to(&question, server).await;
        }
        tokio::time::sleep(INTERVAL).await;
        // The answers are read only so that they do not fill the socket's buffer: what counts is whether
        // the question came back to the sink.
        while socket.try_recv(&mut answers).is_ok() {}
        while v6.as_ref().is_some_and(|v6| v6.try_recv(&mut answers).is_ok()) {}
        let lost = lock().take_lost_servers();
        for line in lost {
            tell(line);
        }
    }
}

/// Ten random letters and digits: enough that no other audit has the same.
fn random_token() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..10).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}
