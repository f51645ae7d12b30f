//! What the design promises beyond the way of the bytes: a killed fetch goes on where it was, a
//! depot is ready at once, and memory does not grow with a blob.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use types::media_type;

use super::ground::{self, Ground};
use super::measure::{self, Sample, measure};

/// Kills; at random instants, so that a few say little.
const KILLS: usize = 10;
/// Starts of the depot, of which the median counts.
const STARTS: usize = 5;
/// A depot that is not ready by then is broken.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How often a starting depot is asked; a thousandth of what is promised.
const START_POLL: Duration = Duration::from_millis(2);
/// The large blob: longer than 32 bits and than any cache of a process.
const LARGE: u64 = 4 << 30;

/// A fetch that was killed and run again.
pub(super) struct Kill {
    /// Seconds from its start to SIGKILL.
    pub(super) after: f64,
    /// Bytes that were there then.
    pub(super) there: u64,
    /// Of these, how many the registry had to send again: its own count.
    pub(super) again: u64,
}

/// A depot's start.
pub(super) struct Start {
    pub(super) what: &'static str,
    /// Seconds from the start of the process to the first 200 from /readyz; the median.
    pub(super) ready: f64,
}

/// Kills fetches at random instants of the time that a whole one takes, and ends each.
pub(super) fn kills(ground: &Ground, fetch_seconds: f64) -> Result<Vec<Kill>, Box<dyn Error>> {
    let mut kills = Vec::new();
    while kills.len() < KILLS {
        let run = ground.run()?;
        let after = fetch_seconds * rand::random_range(0.05..0.95);
        let mut fetch = ground.shell("exec gantry fetch", run.folder());
        let mut child = fetch.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        thread::sleep(Duration::from_secs_f64(after));
        if child.try_wait()?.is_some() {
            // It was done before; the machine is faster now than it was in the rounds.
            continue;
        }
        child.kill()?;
        child.wait()?;
        let store = run.folder().join("store");
        let there = bytes(&store.join("blobs")) + bytes(&store.join("gantry/partial"));
        // A registry of its own for the rest: what the first still logs of the killed run, when it
        // notices, must not be counted.
        let second = ground.second_upstream()?;
        let mut rest = ground.shell("gantry fetch", run.folder());
        rest.env("GANTRY_CONFIG", second.config());
        if !rest.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            return Err("a fetch after kill -9 failed".into());
        }
        let all = bytes(&store.join("blobs"));
        let sent = sent(&second.registry().read_log());
        println!("kill     after {after:5.2} s: {there} there, {sent} sent for the rest");
        kills.push(Kill { after, there, again: (there + sent).saturating_sub(all) });
    }
    Ok(kills)
}

/// Starts depots on a store and on bundle files.
pub(super) fn starts(ground: &Ground) -> Result<Vec<Start>, Box<dyn Error>> {
    let run = ground.run()?;
    ground.prepare("gantry fetch && gantry pack -o bundle", run.folder())?;
    ground.prepare("gantry pack -o small --file-size 64MiB", run.folder())?;
    [("the store", "store"), ("one bundle file", "bundle"), ("bundle files of 64 MiB", "small")]
        .into_iter()
        .map(|(what, path)| Ok(Start { what, ready: ready(ground, path, run.folder())? }))
        .collect()
}

/// Fetch, pack, verify and load of one blob of 4 GiB.
pub(super) fn large(ground: &Ground) -> Result<Vec<(&'static str, Sample)>, Box<dyn Error>> {
    let run = ground.run()?;
    let name = "ghcr.io/gantry-examples/large:1";
    let upstream = ground.upstream().host();
    make_large_layout(&run.folder().join("large"))?;
    ground
        .prepare(&format!("crane push large {upstream}/gantry-examples/large:1"), run.folder())?;
    fs::remove_dir_all(run.folder().join("large"))?;
    ground::write_input(run.folder(), &[name.to_owned()])?;
    ground.prepare("gantry lock", run.folder())?;
    let load = format!("gantry load bundle --to {}", run.site());
    let steps = [
        ("fetch", "gantry fetch"),
        ("pack", "gantry pack -o bundle"),
        ("verify", "gantry verify bundle/*.gantry"),
        ("load", load.as_str()),
    ];
    let mut samples = Vec::new();
    for (step, script) in steps {
        let sample = measure(&mut ground.shell(script, run.folder()), &[run.folder()])?;
        println!("4 GiB    {step:11} {:7.2} s {:5.0} MB", sample.wall, sample.memory / 1e6);
        samples.push((step, sample));
    }
    Ok(samples)
}

/// An image of one layer of random bytes; every tool sees it as an OCI layout.
fn make_large_layout(folder: &Path) -> Result<(), Box<dyn Error>> {
    let layout = store::Store::open(folder)?;
    let (layer, _) = layout.add_reader(File::open("/dev/urandom")?.take(LARGE))?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
    })
    .to_string();
    let config_digest = layout.put_bytes(config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {
            "mediaType": media_type::OCI_CONFIG,
            "digest": config_digest.to_string(),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.to_string(),
            "size": LARGE,
        }],
    })
    .to_string();
    let manifest_digest = layout.put_bytes(manifest.as_bytes())?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": media_type::OCI_MANIFEST,
            "digest": manifest_digest.to_string(),
            "size": manifest.len(),
        }],
    });
    Ok(fs::write(folder.join("index.json"), index.to_string())?)
}

/// The median time until a depot on `path` says that it is ready.
fn ready(ground: &Ground, path: &str, folder: &Path) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let address = free_address()?;
        let script = format!("exec gantry serve {path} --listen {address}");
        let mut command = ground.shell(&script, folder);
        let start = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        while !is_ready(address) && start.elapsed() < START_DEADLINE {
            thread::sleep(START_POLL);
        }
        times.push(start.elapsed().as_secs_f64());
        child.kill()?;
        child.wait()?;
    }
    let median = measure::middle(times.into_iter()).unwrap_or_default();
    println!("serve    {path}: ready after {median:.3} s");
    Ok(median)
}

/// A free address of this machine: it was given to us a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr, Box<dyn Error>> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Whether a depot says that it is ready.
pub(crate) fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: depot\r\nConnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut answer))
        .is_ok_and(|_| answer.starts_with("HTTP/1.1 200"))
}

/// The lengths of all files below a folder.
fn bytes(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The bytes that the registry has sent as bodies of blobs and manifests, from its access log
/// (Apache's combined format): `… "GET /v2/… HTTP/1.1" 206 12345 "" "gantry/0.1.0"`.
fn sent(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| {
            let (_, request) = line.split_once("\"GET /v2/")?;
            let (_, answer) = request.split_once("\" ")?;
            let mut words = answer.split(' ');
            let status = words.next()?;
            let length: u64 = words.next()?.parse().ok()?;
            matches!(status, "200" | "206").then_some(length)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_sent_is_read_from_its_access_log() {
        let log = "127.0.0.1 - - [21/Nov/2026:08:00:00 +0000] \"GET /v2/a/blobs/sha256:b HTTP/1.1\" 206 123 \"\" \"gantry\"\n\
                   127.0.0.1 - - [21/Nov/2026:08:00:00 +0000] \"HEAD /v2/a/blobs/sha256:b HTTP/1.1\" 200 999 \"\" \"gantry\"\n\
                   127.0.0.1 - - [21/Nov/2026:08:00:00 +0000] \"GET /v2/a/blobs/sha256:c HTTP/1.1\" 404 77 \"\" \"gantry\"\n";
        assert_eq!(sent(log), 123);
    }
}
