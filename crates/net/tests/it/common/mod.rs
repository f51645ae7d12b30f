//! Servers whose every byte a test decides, and nginx.
#![allow(dead_code, reason = "no test file needs all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gantry_net::{Client, ClientBuilder, Credentials, RetryPolicy};

/// A server that answers each request, one a connection, with what a function gives.
pub(crate) struct Scripted {
    pub(crate) host: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What is sent, and what follows.
pub(crate) enum Answer {
    /// These bytes, then the end of the connection.
    Close(Vec<u8>),
    /// These bytes, then nothing, on an open connection.
    Stall(Vec<u8>),
}

impl Scripted {
    /// `script` gets the number of the request, from 0, and its head with what came of its body.
    pub(crate) fn start(script: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, script) = (Arc::clone(&requests), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                thread::spawn(move || converse(stream.unwrap(), &seen, &*script));
            }
        });
        Self { host, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn converse(
    mut stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    script: &dyn Fn(usize, &str) -> Answer,
) {
    let Some(request) = read_request(&mut stream) else { return };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    match script(number, &request) {
        Answer::Close(bytes) => {
            // The client may be gone: that is its right.
            let _ = stream.write_all(&bytes);
        }
        Answer::Stall(bytes) => {
            let _ = stream.write_all(&bytes);
            // Until the client has had enough.
            let _ = stream.read(&mut [0]);
        }
    }
}

/// The head and, by its length, the body.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    let mut text = String::from_utf8(text).unwrap().to_ascii_lowercase();
    let length = text
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    Answer::Close(head(status, headers, body.len(), body))
}

/// An answer that promises `length` bytes and holds `body`.
pub(crate) fn head(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The first byte that a request's `Range` asks for.
pub(crate) fn range_start(request: &str) -> Option<usize> {
    request.split("range: bytes=").nth(1)?.split('-').next()?.parse().ok()
}

/// A client that does not wait.
pub(crate) fn hasty() -> ClientBuilder {
    Client::builder()
        .credentials(Credentials::with_credential(
            "nobody",
            gantry_net::Credential::IdentityToken(String::new()),
        ))
        // Long enough for a server here on a busy machine, short enough to wait for in a test.
        .idle_timeout(Duration::from_secs(2))
        .answer_timeout(Duration::from_secs(2))
        .retry(RetryPolicy {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(2),
            ..RetryPolicy::default()
        })
}

pub(crate) fn client() -> Client {
    hasty().build().unwrap()
}

/// Bytes of which no two places look alike.
pub(crate) fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n * 7) ^ (n >> 8)) as u8).collect()
}

/// Runs the calling test again in a process with other variables. `true` within it.
pub(crate) fn in_own_process(test: &str, variables: &[(&str, &str)]) -> bool {
    const INNER: &str = "GANTRY_TEST_INNER";
    if std::env::var_os(INNER).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INNER, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", text.concat());
    assert!(text[0].contains("1 passed"), "no such test as {test}");
    false
}

/// nginx over a folder, over TLS and plain.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) plain: String,
    pub(crate) tls: String,
    folder: tempfile::TempDir,
}

impl Nginx {
    pub(crate) fn start(root: &Path, authority: &testkit::TestAuthority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = authority.issue_server_certificate(folder.path());
        let [plain, tls] = [(); 2].map(|()| free_port());
        let config = format!(
            "daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; user root;\n\
             events {{}}\n\
             http {{ log_format l '$server_protocol $request_uri $http_range'; access_log {folder}/log l;\n\
             client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;\n\
             uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; sendfile on;\n\
             server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2; root {root};\n\
             ssl_certificate {cert}; ssl_certificate_key {key}; }} }}\n",
            folder = folder.path().display(),
            root = root.display(),
            cert = files.certificate.display(),
            key = files.key.display(),
        );
        std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let child = Command::new(testkit::tools::tool_path("nginx"))
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx starts (run dev/setup)");
        while TcpStream::connect(("127.0.0.1", tls)).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self {
            child,
            plain: format!("http://127.0.0.1:{plain}"),
            tls: format!("https://localhost:{tls}"),
            folder,
        }
    }

    /// Waits for a line of the access log, which is written after the client has its answer.
    pub(crate) fn wait_for(&self, line: &str) {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            if log.contains(line) {
                return;
            }
            assert!(Instant::now() < deadline, "{line:?} is not in {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM: its worker ends with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
