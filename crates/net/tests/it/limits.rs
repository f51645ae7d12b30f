//! Clients that do nothing, or not enough: every phase of a connection has an end, and others are served
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use gantry_net::serve::{
    HttpService, ListenConfig, Readiness, ReadinessProbe, RunningServer, ServerLimits, TlsFiles,
    start_service,
};

/// A server in a runtime of its own.
struct Server {
    runtime: tokio::runtime::Runtime,
    running: Option<RunningServer>,
    address: SocketAddr,
}

impl Server {
    fn start(limits: ServerLimits, tls: Option<TlsFiles>) -> Self {
        let endless = get(|| async {
            let zeros = || Ok::<_, std::io::Error>(vec![0_u8; 1 << 15]);
            Body::from_stream(futures::stream::repeat_with(zeros))
        });
        let router =
            Router::new().route("/small", get(|| async { "small" })).route("/endless", endless);
        let service = HttpService { limits, ..HttpService::new(router) };
        let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(start_service(&config, service)).unwrap();
        let address = running.address();
        Self { runtime, running: Some(running), address }
    }

    fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// The status of a request on a connection of its own; 0 when there is no answer.
    fn status(&self, path: &str) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let mut text = String::new();
        let _ = self.connect(request.as_bytes()).read_to_string(&mut text);
        text.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.drain_requests(Duration::ZERO));
        }
    }
}

/// Limits that end within a test.
fn short_limits() -> ServerLimits {
    let short = Duration::from_millis(300);
    ServerLimits {
        handshake: short,
        first_byte: short,
        head: short,
        idle: short,
        stalled: short,
        stalled_under_load: short,
        turn: short,
        ..ServerLimits::default()
    }
}

/// Waits until the server ends the connection, and returns what it sent.
fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let (mut bytes, started) = (Vec::new(), Instant::now());
    let end = stream.read_to_end(&mut bytes);
    let is_timeout = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!is_timeout, "it is still open after {:?}", started.elapsed());
    bytes
}

#[test]
fn every_phase_of_a_connection_ends() {
    let server = Server::start(short_limits(), None);
    let whole = "GET /small HTTP/1.1\r\nhost: x\r\n\r\n";
    for (phase, bytes) in [
        ("nothing was sent", ""),
        ("one byte that may begin HTTP/2", "P"),
        ("a part of the preface", "PRI * HTTP/2.0\r\n"),
        ("the preface of HTTP/2 and no more", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a part of a request", "GET /small HTTP/1.1\r\nhost:"),
        ("idle after a request", whole),
    ] {
        let answer = read_to_end(server.connect(bytes.as_bytes()));
        let has_answer = String::from_utf8_lossy(&answer).contains("small");
        assert_eq!(has_answer, bytes == whole, "{phase}");
    }
    // A client that sends a head without end.
    let mut slow = server.connect(b"GET /small HTTP/1.1\r\n");
    let started = Instant::now();
    while slow.write_all(b"x: y\r\n").is_ok() {
        assert!(started.elapsed() < Duration::from_secs(20), "the head may take any time");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.status("/small"), 200);
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let server = Server::start(short_limits(), None);
    let stream = server.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n");
    std::thread::sleep(Duration::from_secs(3));
    // What was sent before is in buffers; after it comes the end.
    assert!(read_to_end(stream).len() < 16 << 20);
}

#[test]
fn a_connection_over_tls_that_sends_no_request_is_closed() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), testkit::TestAuthority::new());
    let files = authority.issue_server_certificate(folder.path());
    let tls = TlsFiles { certificate: files.certificate, key: files.key };
    let server = Server::start(short_limits(), Some(tls));

    // Nothing instead of a handshake.
    assert!(read_to_end(server.connect(b"")).is_empty());
    // A handshake, with each protocol, and nothing after it.
    for protocol in ["h2", "http/1.1"] {
        let mut client = std::process::Command::new("openssl")
            .args(["s_client", "-quiet", "-alpn", protocol, "-connect"])
            .arg(server.address.to_string())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        // It ends when the server closes, since its input stays open.
        while client.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(20), "{protocol} stays open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn silent_connections_make_room_for_others() {
    let limits =
        ServerLimits { connections: 40, connections_per_client: 30, ..ServerLimits::default() };
    let server = Server::start(limits, None);

    // More than there is room for, all of one address.
    let silent: Vec<TcpStream> = (0..100).map(|_| server.connect(b"")).collect();
    for path in ["/small", "/healthz", "/readyz", "/metrics", "/small"] {
        assert_eq!(server.status(path), 200, "{path}");
    }
    drop(silent);
}

#[test]
fn requests_beyond_the_limit_are_told_to_come_back_and_health_checks_are_answered() {
    let limits = ServerLimits {
        requests: 8,
        requests_per_client: 4,
        turn: Duration::from_millis(200),
        ..ServerLimits::default()
    };
    let server = Server::start(limits, None);
    let stuck: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = server.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n");
            // It has its turn.
            stream.read_exact(&mut [0; 64]).unwrap();
            stream
        })
        .collect();

    assert_eq!(server.status("/small"), 503);
    assert_eq!(server.status("/healthz"), 200);
    assert_eq!(server.status("/readyz"), 200);
    drop(stuck);
    testkit::wait_until("the turns come back", || server.status("/small") == 200);
}

#[test]
fn clients_that_read_nothing_are_given_up_early_when_others_wait() {
    let limits = ServerLimits {
        requests: 2,
        stalled_under_load: Duration::from_millis(500),
        turn: Duration::from_secs(20),
        ..ServerLimits::default()
    };
    let server = Server::start(limits, None);
    let stuck: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = server.connect(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n");
            stream.read_exact(&mut [0; 64]).unwrap();
            stream
        })
        .collect();

    assert_eq!(server.status("/small"), 200, "it waits for its turn, and gets it");
    drop(stuck);
}

#[test]
fn a_server_that_is_not_ready_says_why() {
    struct Probe(Readiness);
    impl ReadinessProbe for Probe {
        fn check_readiness(&self) -> Readiness {
            self.0.clone()
        }
    }
    for (readiness, status, text) in [
        (Readiness::Ready(vec!["one remark".into()]), 200, "ok\none remark\n"),
        (Readiness::NotReady("the disk is gone".into()), 503, "not ready: the disk is gone\n"),
    ] {
        let service = HttpService {
            readiness: std::sync::Arc::new(Probe(readiness)),
            ..HttpService::new(Router::new())
        };
        let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(start_service(&config, service)).unwrap();
        let mut stream = TcpStream::connect(running.address()).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.ends_with(text), "{answer}");
    }
}

#[test]
fn a_client_that_reads_nothing_costs_at_most_128_kib() {
    const CLIENTS: usize = 400;
    // In a process of its own, whose memory no other test uses.
    let test = "limits::a_client_that_reads_nothing_costs_at_most_128_kib";
    if !crate::common::in_own_process(test, &[]) {
        return;
    }
    let blob = get(|| async {
        let zeros = || Ok(std::io::Read::take(std::io::repeat(0), 1 << 30));
        Body::from_stream(gantry_net::body::stream_reader(
            gantry_net::body::ReadAhead::OnceTaken,
            zeros,
        ))
    });
    let service = HttpService::new(Router::new().route("/blob", blob));
    let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = runtime.block_on(start_service(&config, service)).unwrap();
    let request = |count: usize| -> Vec<TcpStream> {
        (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(running.address()).unwrap();
                stream.write_all(b"GET /blob HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                stream
            })
            .collect()
    };
    // What the first requests need, threads for instance, is not a client's.
    let _first = request(50);
    wait_until_settled(running.address());
    let before = resident_bytes() + unsent_bytes(running.address());

    let _more = request(CLIENTS);
    wait_until_settled(running.address());
    let after = resident_bytes() + unsent_bytes(running.address());

    let each = (after - before) / CLIENTS as u64;
    println!("{} KiB a client", each >> 10);
    assert!(each <= 128 << 10, "{} KiB a client", each >> 10);
}

/// Waits until the server's sockets take no more.
fn wait_until_settled(server: SocketAddr) {
    let mut last = 0;
    testkit::wait_until("the buffers are full", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = unsent_bytes(server);
        std::mem::replace(&mut last, now) == now && now > 0
    });
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The bytes in the send buffers of the server's sockets (proc(5), `/proc/net/tcp`).
fn unsent_bytes(server: SocketAddr) -> u64 {
    let port = format!(":{:04X}", server.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let queue = fields[4].split(':').next()?;
        fields[1].ends_with(&port).then(|| u64::from_str_radix(queue, 16).unwrap())
    });
    queues.sum()
}
