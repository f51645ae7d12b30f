//! What the verification of a blob costs when `gantry serve` sends it: a request that hashes it, since
//! it is the first and came before the background check; the first one after that check; and a later
//! one. By one client on loopback, which is faster than a network; by as many as nodes of a cluster
//! that pull an image at once; and by one behind a network link.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::extra::{free_address, is_ready};
use super::measure::{measure_command, middle, prepare_gantry};

/// The length of the blob: some seconds of a slow machine.
const LENGTH: u64 = 1 << 30;
/// Servers that are started for each source and kind of client; the medians count.
const ROUNDS: usize = 3;
/// Requests after the first.
const LATER: usize = 3;
/// Who requests the blob.
const CLIENTS: [ClientLoad; 4] = [
    ClientLoad { what: "one client on loopback", clients: 1, rate: None },
    ClientLoad { what: "ten clients at once on loopback", clients: 10, rate: None },
    ClientLoad { what: "one client at 10 Gbit/s", clients: 1, rate: Some(1_250_000_000) },
    ClientLoad { what: "one client at 1 Gbit/s", clients: 1, rate: Some(125_000_000) },
];
/// The blobs of a file: its config and its content.
const BLOBS: &str = "gantry_depot_blob_checks_total{result=\"intact\"} 2";
/// A server that is not ready by then is broken.
const START_DEADLINE: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(5);

/// The clients that request the blob at the same time.
#[derive(Clone, Copy)]
pub(super) struct ClientLoad {
    /// In words.
    pub(super) what: &'static str,
    clients: usize,
    /// Bytes per second that each takes at most.
    rate: Option<u64>,
}

/// The requests of a blob.
pub(super) struct ServedBlob {
    /// What it was served from.
    pub(super) source: &'static str,
    pub(super) load: ClientLoad,
    /// Seconds of the first request of a server that has not verified the blob.
    pub(super) unverified: f64,
    /// Seconds of the first request of a server that has, in the background.
    pub(super) verified: f64,
    /// Seconds of a later one.
    pub(super) later: f64,
}

impl ServedBlob {
    /// How much longer the first request takes than a later one, as a share: before and after the
    /// background check.
    pub(super) fn shares(&self) -> [f64; 2] {
        [self.unverified, self.verified].map(|seconds| seconds / self.later - 1.0)
    }
}

/// Measures with a binary, and prints what it found.
pub(super) fn measure_reads(gantry: &Path) -> Result<Vec<ServedBlob>, Box<dyn Error>> {
    let folder = super::ground::temporary()?;
    let folder = folder.path();
    io::copy(
        &mut File::open("/dev/urandom")?.take(LENGTH),
        &mut File::create(folder.join("large.bin"))?,
    )?;
    fs::write(folder.join("config.yaml"), "{}")?;
    fs::write(folder.join("gantry.yaml"), "version: 1\nname: serve\nfiles: [large.bin]\n")?;
    for arguments in [&["lock"][..], &["fetch"], &["pack", "-o", "bundle"]] {
        measure_command(prepare_gantry(gantry, folder).args(arguments), &[])?;
    }
    let mut served = Vec::new();
    for (source, path) in [("the store", "store"), ("a bundle file", "bundle")] {
        for load in CLIENTS {
            let (mut unverified, mut verified, mut later) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let server = Server::start(gantry, folder, path, "on-request")?;
                unverified.push(server.measure_load(load)?);
                drop(server);
                let server = Server::start(gantry, folder, path, "background")?;
                server.wait_until_verified()?;
                verified.push(server.measure_load(load)?);
                for _ in 0..LATER {
                    later.push(server.measure_load(load)?);
                }
            }
            let median = |times: Vec<f64>| middle(times.into_iter()).unwrap_or_default();
            let blob = ServedBlob {
                source,
                load,
                unverified: median(unverified),
                verified: median(verified),
                later: median(later),
            };
            let [before, after] = blob.shares().map(|share| share * 100.0);
            println!(
                "serve    1 GiB from {source}, {}: unverified {:.2} s ({before:+.0} %), \
                 verified {:.2} s ({after:+.0} %), later {:.2} s",
                load.what, blob.unverified, blob.verified, blob.later,
            );
            served.push(blob);
        }
    }
    Ok(served)
}

/// A running server; killed on drop.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(
        gantry: &Path,
        folder: &Path,
        source: &str,
        verify: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let address = free_address()?;
        let process = prepare_gantry(gantry, folder)
            .args(["serve", source, "--verify", verify, "--listen", &address.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { process, address };
        let start = Instant::now();
        while !is_ready(address) {
            if start.elapsed() > START_DEADLINE {
                return Err(format!("gantry serve {source} does not start").into());
            }
            thread::sleep(START_POLL);
        }
        Ok(server)
    }

    fn wait_until_verified(&self) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        while !self.read_metrics()?.contains(BLOBS) {
            if start.elapsed() > START_DEADLINE {
                return Err("the background check does not end".into());
            }
            thread::sleep(START_POLL);
        }
        Ok(())
    }

    fn read_metrics(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: depot\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Reads the blob by all clients at once, and returns the seconds until the last has it.
    fn measure_load(&self, load: ClientLoad) -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let read = || read_blob(self.address, load.rate).map_err(|error| error.to_string());
        thread::scope(|scope| {
            let clients: Vec<_> = (0..load.clients).map(|_| scope.spawn(read)).collect();
            clients.into_iter().try_for_each(|client| {
                client.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))
            })
        })?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Reads the blob to its end, no faster than the rate.
fn read_blob(address: SocketAddr, rate: Option<u64>) -> io::Result<()> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream
        .write_all(b"GET /files/large.bin HTTP/1.1\r\nHost: depot\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 1 << 20];
    let mut received: u64 = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => received += read as u64,
        }
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(received as f64 / rate as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    // With the head, it is a little more than the blob.
    if received < LENGTH {
        return Err(io::Error::other(format!("{received} bytes were sent")));
    }
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
