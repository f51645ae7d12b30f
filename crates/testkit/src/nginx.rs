//! nginx as a reverse proxy, as many sites have one before their registry: it passes on whole request
//! bodies only, and limits their length.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::ServerProcess;
use crate::tools;

/// A running nginx before a server; killed on drop.
#[derive(Debug)]
pub struct NginxProxy {
    _process: ServerProcess,
    host: String,
    _folder: TempDir,
}

impl NginxProxy {
    /// Starts nginx before `host` (`127.0.0.1:5000`), with a limit for bodies as nginx writes it
    /// (`1m` is its default, 0 is none).
    pub fn in_front_of(host: &str, most_body: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let own = listener.local_addr().expect("a listener has an address").to_string();
        drop(listener);
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.path().display()))
            .join(" ");
        // `Host` as the client sent it, so that the addresses that a registry makes lead through here.
        let config = format!(
            "daemon off; pid {}/pid; error_log stderr notice; worker_processes 1; user root;\n\
             events {{}}\n\
             http {{ access_log off; {temporary} client_max_body_size {most_body};\n\
             server {{ listen {own}; location / {{ proxy_pass http://{host}; \
             proxy_set_header Host $http_host; }} }} }}\n",
            folder.path().display(),
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a config can be written");
        let process = ServerProcess::start(
            tools::tool_command("nginx").arg("-c").arg(&file),
            &folder.path().join("log"),
        );
        while TcpStream::connect(&own).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { _process: process, host: own, _folder: folder }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }
}
