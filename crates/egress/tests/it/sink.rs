//! The DNS sink over real sockets, asked by a client that is not ours: one in Python, over UDP and TCP.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gantry_egress::sink::DnsSink;
use gantry_egress::{ObservationMethod, ObserverMessage};
use tokio::sync::oneshot;

struct Running {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<ObserverMessage>>>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn new(probe: &[SocketAddr]) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = lines.clone();
        let any = "127.0.0.1:0".parse().unwrap();
        let tell = Arc::new(move |line| told.lock().unwrap().push(line));
        let sink = DnsSink::bind(any, probe, tell).await.unwrap();
        let address = sink.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(sink.serve(async {
            let _ = stopped.await;
        }));
        Self { address, lines, stop: Some(stop), served }
    }

    async fn until(&self, what: impl Fn(&ObserverMessage) -> bool) -> ObserverMessage {
        let start = Instant::now();
        loop {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| what(line)) {
                return line.clone();
            }
            assert!(start.elapsed() < Duration::from_mins(2), "{:?}", self.lines.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(mut self) -> Vec<ObserverMessage> {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap();
        let lines = self.lines.lock().unwrap();
        lines.clone()
    }
}

/// A DNS client in Python's standard library; it adds the EDNS0 option as CoreDNS does.
const CLIENT: &str = r#"
import socket, struct, sys
port, transport, name, times = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)
option = struct.pack("!HH", 0xfeed, 4) + socket.inet_aton("10.244.1.7")
opt = b"\0" + struct.pack("!HHIH", 41, 4096, 0, len(option)) + option
message = struct.pack("!HHHHHH", 4711, 0x0100, 1, 0, 0, 1) + question + opt
for _ in range(times):
    if transport == "udp":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
        s.sendto(message, ("127.0.0.1", port)); answer = s.recv(4096)
    else:
        s = socket.create_connection(("127.0.0.1", port), 60)
        for _ in range(2):
            s.sendall(struct.pack("!H", len(message)) + message)
            length, = struct.unpack("!H", s.recv(2)); answer = s.recv(length)
    identity, flags, questions = struct.unpack("!HHH", answer[:6])
    assert (identity, flags & 0x800f, questions) == (4711, 0x8003, 1), answer
print("NXDOMAIN")
"#;

async fn ask(address: SocketAddr, transport: &str, name: &str, times: u32) {
    let port = address.port().to_string();
    let output = tokio::process::Command::new("python3")
        .args(["-c", CLIENT, &port, transport, name, &times.to_string()])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "NXDOMAIN\n", "{errors}");
}

#[tokio::test]
async fn questions_over_udp_and_tcp_are_answered_and_told_with_the_pod_that_asked() {
    let sink = Running::new(&[]).await;

    ask(sink.address, "udp", "Telemetry.Maker.com", 5).await;
    ask(sink.address, "tcp", "hub.maker.com", 1).await;
    let lines = sink.end().await;

    assert_eq!(lines[0], ObserverMessage::Ready { source: ObservationMethod::Dns, reason: None });
    let counts = |name: &str| {
        let counts = lines.iter().filter_map(|line| match line {
            ObserverMessage::Query { query, seen } if query.name == name => {
                assert_eq!(query.client, Some("10.244.1.7".parse().unwrap()));
                assert_eq!(query.kind, "A");
                Some(seen.count)
            }
            _ => None,
        });
        counts.collect::<Vec<_>>()
    };
    // Reported at once, and again at the end with the final count.
    assert_eq!(counts("telemetry.maker.com").first(), Some(&1));
    assert_eq!(counts("telemetry.maker.com").last(), Some(&5));
    assert_eq!(counts("hub.maker.com").last(), Some(&2));
}

#[tokio::test]
async fn a_name_server_that_forwards_is_known_by_its_own_question_and_missed_when_it_stops() {
    // A name server that forwards everything, as CoreDNS does with the changed Corefile.
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let sink = Running::new(&[address]).await;
    let to = sink.address;
    let forwarding = tokio::spawn(async move {
        let mut bytes = [0; 512];
        loop {
            let (length, _) = front.recv_from(&mut bytes).await.unwrap();
            front.send_to(&bytes[..length], to).await.unwrap();
        }
    });

    assert_eq!(
        sink.until(|line| matches!(line, ObserverMessage::Reached { .. })).await,
        ObserverMessage::Reached { server: address }
    );
    forwarding.abort();
    sink.until(|line| *line == ObserverMessage::Lost { server: address }).await;

    // The sink's own questions are nobody's attempt.
    assert!(!sink.end().await.iter().any(|line| matches!(line, ObserverMessage::Query { .. })));
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let Err(error) = DnsSink::bind(address, &[], Arc::new(|_| {})).await else { panic!("bound") };
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
