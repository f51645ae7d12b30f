//! Measures this crate alone: `measure STORE OUT pack|verify|open|read [VOLUME-SIZE]`.
//! Prints wall seconds, bytes, and the process's peak memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gantry_bundle::{
    Bundle, BundleContents, BundleFileSize, BundleName, Recheck, pack_to_folder, plan_files,
    verify_file,
};
use store::progress::SilentProgress;
use store::{Source, Store};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, store, out, what, rest @ ..] = arguments.as_slice() else {
        panic!("measure STORE OUT pack|verify|open|read [VOLUME-SIZE]")
    };
    let out = Path::new(out);
    let size = rest
        .first()
        .map_or(BundleFileSize::Unlimited, |size| BundleFileSize::Below(size.parse().unwrap()));
    let begin = Instant::now();
    let bytes = match what.as_str() {
        "pack" => pack_all(Path::new(store), out, size),
        "verify" => volumes(out).iter().map(|path| verify_one(path)).sum(),
        "open" => Bundle::open(&volumes(out)).unwrap().roots().unwrap().len() as u64,
        "read" => read_all(&Bundle::open(&volumes(out)).unwrap()),
        other => panic!("{other}: pack, verify, open or read"),
    };
    let seconds = begin.elapsed().as_secs_f64();
    println!("{what}: {seconds:.3} s, {bytes} bytes or roots, peak {}", peak());
}

fn pack_all(store: &Path, out: &Path, size: BundleFileSize) -> u64 {
    let store = Store::open_existing(store).unwrap();
    let contents = BundleContents { roots: store.roots().unwrap(), lock: b"version: 1\n".to_vec() };
    let plan =
        plan_files(&store, contents, BundleName::new("measure", "1").unwrap(), size).unwrap();
    pack_to_folder(&store, &plan, out, Recheck::Index, &SilentProgress).unwrap();
    plan.size()
}

fn verify_one(path: &Path) -> u64 {
    let found = verify_file(path, &SilentProgress).unwrap();
    assert!(found.is_whole(), "{:?}", found.damages);
    found.file.end_record().length
}

fn read_all(bundle: &Bundle) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    for root in bundle.roots().unwrap() {
        for blob in store::find_closure(bundle, &root).unwrap().descriptors() {
            let mut reader = bundle.open_blob(&blob.digest, 0..blob.size).unwrap();
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => break,
                    read => total += read as u64,
                }
            }
        }
    }
    total
}

fn volumes(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|name| name == "gantry")).collect();
    paths.sort();
    paths
}

/// The peak resident memory of the process, as Linux reports it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().to_owned())
}
