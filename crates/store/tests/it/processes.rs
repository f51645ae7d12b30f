//! Processes that are killed, and processes that work at the same time. Each process is this test
//! binary again; an environment variable makes it a worker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader, Lines};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::common::{bytes, image};
use gantry_store::hash::sha256;
use gantry_store::progress::SilentProgress;
use gantry_store::{DamagePolicy, GarbageMode, Store, WriteStart};

/// The worker's store; set for workers only.
const STORE: &str = "GANTRY_TEST_STORE";
/// Which roots the worker publishes: `first..end`.
const ROOTS: &str = "GANTRY_TEST_ROOTS";
/// Layers are this long: several buffers of the writer.
const LAYER: usize = (1 << 20) + 11;
/// A worker writes a layer in pieces of this length.
const PIECE: usize = 24 << 10;
/// What a killed process may lose of a blob: the writer's buffer, and the piece that filled it.
const LOST: u64 = (256 << 10) + PIECE as u64;
const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

#[test]
fn a_process_that_is_killed_at_any_instant_leaves_nothing_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut published = 0;
    for round in 0..20 {
        // Every round is killed a while after another line; the kill itself hits any instant.
        let lines_until_kill = 1 + (round * 37) % 131;
        let (mut worker, lines) = start(&path, 0..1000);
        let mut writing = None;
        for line in lines.take(lines_until_kill) {
            let line = line.unwrap();
            match line.split_once(' ').unwrap() {
                ("published", name) => published = name.parse().unwrap(),
                ("written", at) => {
                    writing = at
                        .split_once(' ')
                        .map(|(n, at)| (n.parse::<u64>().unwrap(), at.parse::<u64>().unwrap()));
                }
                _ => {}
            }
        }
        worker.kill().unwrap();
        worker.wait().unwrap();

        let store = Store::open(&path).unwrap();
        let found = store.verify(DamagePolicy::Keep, THREADS, &SilentProgress).unwrap();
        assert!(found.is_intact(), "round {round}: {found:?}");
        let names: Vec<String> =
            store.roots().unwrap().iter().map(|root| root.name.to_string()).collect();
        for n in 0..published {
            assert!(names.contains(&name(n)), "round {round}: {} is lost", name(n));
        }
        if let Some((n, at)) = writing {
            assert!(kept(&store, n) + LOST >= at, "round {round}: {at} bytes were written");
        }
    }
    assert!(published > 0, "the workers came to something");
}

#[test]
fn a_process_that_is_killed_while_the_store_is_made_does_not_spoil_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = folder.path().join(round.to_string());
        let (mut worker, mut lines) = start(&path, 0..1);
        // The first line comes just before the store is made.
        assert_eq!(lines.next().unwrap().unwrap(), "opening store");
        worker.kill().unwrap();
        worker.wait().unwrap();

        let store = Store::open(&path).unwrap();

        let root = image(&store, "a/b:1", &[b"layer"]);
        store.publish_roots(&[root]).unwrap();
    }
}

#[test]
fn several_processes_write_the_same_blobs_and_publish_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // Two at a time publish the same roots, all the same layers in parts.
    let workers: Vec<_> =
        [0..12, 0..12, 6..18, 6..18].map(|roots| start(&path, roots)).into_iter().collect();

    for (mut worker, lines) in workers {
        lines.for_each(|line| drop(line.unwrap()));
        assert!(worker.wait().unwrap().success());
    }

    let store = Store::open_existing(&path).unwrap();
    assert_eq!(store.roots().unwrap().len(), 18);
    assert!(store.verify(DamagePolicy::Keep, THREADS, &SilentProgress).unwrap().is_intact());
    assert_eq!(std::fs::read_dir(path.join("gantry/partial")).unwrap().count(), 0);
}

#[test]
fn garbage_is_collected_while_others_work_and_nothing_that_is_needed_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    let garbage = store.put_bytes(b"nobody needs this").unwrap();
    let (mut worker, lines) = start(&path, 0..12);

    let mut collections = 0;
    for line in lines {
        if line.unwrap().starts_with("published") {
            store.collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress).unwrap();
            collections += 1;
        }
    }

    assert!(worker.wait().unwrap().success());
    assert_eq!(collections, 12);
    assert_eq!(store.roots().unwrap().len(), 12);
    assert!(store.verify(DamagePolicy::Keep, THREADS, &SilentProgress).unwrap().is_intact());
    assert!(!store.blob_path(&garbage).exists());
}

fn name(n: u64) -> String {
    format!("docker.io/library/image:{n}")
}

fn layer(n: u64) -> Vec<u8> {
    bytes(n, LAYER)
}

/// Bytes of the layer that the store still has; they must be the right ones.
fn kept(store: &Store, n: u64) -> u64 {
    let layer = layer(n);
    let partial = store.path().join("gantry/partial").join(sha256(&layer).hex());
    if let Ok(partial) = std::fs::read(partial) {
        assert!(layer.starts_with(&partial), "the partial of layer {n} is corrupt");
    }
    match store.open_writer(&sha256(&layer), layer.len() as u64).unwrap() {
        WriteStart::Present => layer.len() as u64,
        WriteStart::Writer(writer) => writer.offset(),
    }
}

fn start(store: &Path, roots: std::ops::Range<u64>) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::worker", "--nocapture", "--quiet"])
        .env(STORE, store)
        .env(ROOTS, format!("{}..{}", roots.start, roots.end))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    // What the test harness says before and after is not the worker's.
    while lines.next().unwrap().unwrap() != "worker starts" {}
    (worker, lines)
}

/// No test of its own: what the tests above start as a process. Publishes one image after the
/// other, and says what it does.
#[test]
fn worker() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let roots = std::env::var(ROOTS).unwrap();
    let (first, end) = roots.split_once("..").unwrap();
    println!("worker starts");
    println!("opening store");
    let store = Store::open(path).unwrap();
    for n in first.parse::<u64>().unwrap()..end.parse().unwrap() {
        let session = store.open_session().unwrap();
        let layer = layer(n);
        if let WriteStart::Writer(mut writer) =
            store.open_writer(&sha256(&layer), LAYER as u64).unwrap()
        {
            while writer.offset() < LAYER as u64 {
                let at = writer.offset() as usize;
                let piece = &layer[at..LAYER.min(at + PIECE)];
                writer.write(piece).unwrap();
                println!("written {n} {}", writer.offset());
            }
            writer.commit().unwrap();
        }
        let root = image(&store, &name(n), &[&layer]);
        store.publish_roots(&[root]).unwrap();
        drop(session);
        println!("published {n}");
    }
    // Ends here, before the harness says its own lines to whoever still listens.
    std::process::exit(0);
}
