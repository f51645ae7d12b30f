//! Many clients that request the same blob at once, before it was ever read: one hash serves all, and
//! none completes a response with wrong bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use gantry_depot::Depot;
use net::serve::{Readiness, ReadinessProbe as _};

use crate::common::{Filled, Served};
use crate::damage::{Exchange, flip_bit, request};

const CLIENTS: usize = 10;
const PATH: &str = "/org/tiny/resolve/main/model.safetensors";
/// More than all buffers on the way to a client hold.
const LENGTH: usize = 40 << 20;

#[test]
fn clients_of_one_blob_share_one_hash() {
    let (world, content, _) = write_model();
    let served = Served::new(world.store.clone());

    for exchange in request_at_once(&served) {
        match exchange {
            Exchange::Complete(status, body) => assert!(status == 200 && body == content),
            Exchange::Aborted => unreachable!("the blob is intact"),
        }
    }
    let metrics = served.get("/metrics").text();
    let checks = count_checks(&metrics);
    // Two when the machine is so busy that the others give up waiting for the first.
    assert!((1..=2).contains(&checks), "{metrics}");
}

#[test]
fn no_client_of_a_damaged_blob_completes() {
    let (world, _, path) = write_model();
    flip_bit(&path, LENGTH as u64 / 2);
    wait_until_settled(&path);
    let served = Served::new(world.store.clone());

    for exchange in request_at_once(&served) {
        if let Exchange::Complete(status, _) = exchange {
            assert_eq!(status, 500, "the damage was known before it began");
        }
    }
    assert!(served.get("/metrics").text().contains("gantry_depot_damaged_blobs 1"));
}

#[test]
fn a_client_that_stops_reading_does_not_hold_up_the_others() {
    let (world, content, _) = write_model();
    let served = Served::new(world.store.clone());
    let mut stalled = TcpStream::connect(&served.host).unwrap();
    write!(stalled, "GET {PATH} HTTP/1.1\r\nhost: {}\r\n\r\n", served.host).unwrap();
    stalled.read_exact(&mut [0; 1000]).unwrap();

    let Exchange::Complete(200, body) = request(&served.host, PATH, None) else {
        unreachable!("the second client gets the blob")
    };
    assert!(body == content);
    drop(stalled);
    assert!(matches!(request(&served.host, PATH, None), Exchange::Complete(200, _)));
}

#[test]
fn the_background_check_finds_damage_before_anybody_asks() {
    let (world, content, path) = write_model();
    let depot = Arc::new(Depot::open(Arc::new(world.store.clone())).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let verify = |depot: &Arc<Depot>| {
        let _context = runtime.enter();
        drop(runtime.spawn(Arc::clone(depot).verify_in_background()));
    };
    let read_metrics = |depot: &Depot| {
        let mut registry = prometheus_client::registry::Registry::default();
        depot.register_metrics(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let wait_for = |depot: &Depot, line: &str| {
        let start = Instant::now();
        while !read_metrics(depot).contains(line) {
            assert!(start.elapsed() < Duration::from_secs(120), "{line}: {}", read_metrics(depot));
            thread::sleep(Duration::from_millis(50));
        }
    };
    verify(&depot);
    // The weights, config.json and the ModelPack's own config.
    wait_for(&depot, "gantry_depot_blob_checks_total{result=\"intact\"} 3");
    assert!(read_metrics(&depot).contains("gantry_depot_damaged_blobs 0"));

    flip_bit(&path, content.len() as u64 / 2);
    wait_until_settled(&path);
    let depot = Arc::new(Depot::open(Arc::new(world.store.clone())).unwrap());
    verify(&depot);
    wait_for(&depot, "gantry_depot_damaged_blobs 1");
    assert!(matches!(depot.check_readiness(), Readiness::Ready(told) if told.len() == 1));
}

fn request_at_once(served: &Served) -> Vec<Exchange> {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let host = served.host.clone();
            thread::spawn(move || request(&host, PATH, None))
        })
        .collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

/// A store with one model, its weights, and the file that holds them.
fn write_model() -> (Filled, Vec<u8>, PathBuf) {
    let world = Filled::new();
    let folder = world.folder.path().join("tiny");
    fs::create_dir(&folder).unwrap();
    let content: Vec<u8> = (0..LENGTH).map(|n| (n * n / 7 % 251) as u8).collect();
    fs::write(folder.join("config.json"), "{}").unwrap();
    fs::write(folder.join("model.safetensors"), &content).unwrap();
    world.model(&folder, "org/tiny", "main");
    let path = world.store.blob_path(&store::hash::sha256(&content));
    wait_until_settled(&path);
    (world, content, path)
}

/// Until a write would leave a trace in the file's times ([`store::FileStamp::is_settled`]).
fn wait_until_settled(path: &std::path::Path) {
    loop {
        let stamp = store::FileStamp::from_metadata(&fs::metadata(path).unwrap());
        if stamp.is_settled(SystemTime::now()) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn count_checks(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("gantry_depot_blob_checks_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
