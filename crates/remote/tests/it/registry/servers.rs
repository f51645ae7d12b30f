//! Registries other than plain docker-registry: one with the referrers API, and one that requires
//! tokens from a separate server.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::tools;

/// A server process on loopback; killed on drop.
pub struct Served {
    child: Child,
    pub host: String,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry that follows distribution-spec 1.1 where those of Debian and of crane do not: it has
/// the referrers API, accepts sparse indexes, and resumes interrupted uploads.
pub fn conformant() -> Served {
    python("conformant.py", &[], tempfile::tempdir().unwrap())
}

/// Starts a script in this folder that prints its address.
fn python(script: &str, arguments: &[&Path], folder: tempfile::TempDir) -> Served {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/registry").join(script);
    let mut child = Command::new("python3")
        .arg("-u")
        .arg(script)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3; run dev/setup");
    let mut host = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut host).unwrap();
    Served { child, host: host.trim().to_owned(), _folder: folder }
}

/// A docker-registry that requires tokens, and the server that issues them to `user` with
/// `password` (distribution, docs/spec/auth/token.md). Anyone may pull from `public/`.
pub struct Tokens {
    pub registry: Served,
    pub issuer: Served,
}

pub fn with_tokens() -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    tools::run_command(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
            .args(["-subj", "/CN=tokens", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    let issuer = python("tokens.py", &[&key, &certificate], folder);

    let folder = tempfile::tempdir().unwrap();
    let host = format!("127.0.0.1:{}", free_port());
    let config = json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": folder.path().join("storage")}},
        "http": {"addr": host},
        "auth": {"token": {"realm": format!("http://{}/token", issuer.host), "service": "test",
            "issuer": "tokens", "rootcertbundle": certificate}},
    });
    let file = folder.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let child = tools::tool_command("docker-registry")
        .arg("serve")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry; run dev/setup");
    wait_for(&host);
    Tokens { registry: Served { child, host, _folder: folder }, issuer }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(host: &str) {
    let end = Instant::now() + Duration::from_mins(2);
    while TcpStream::connect(host).is_err() {
        assert!(Instant::now() < end, "nothing listens at {host}");
        std::thread::yield_now();
    }
}
