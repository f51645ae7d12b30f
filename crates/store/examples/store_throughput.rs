//! How fast bytes come into a store: `store_throughput add|verify|write FILE FOLDER`.
//!
//! Compare with what plain tools need for the same work, taking turns: the page cache is warm after
//! the first run:
//! `cp FILE COPY; openssl dgst -sha256 FILE`
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement for people")]

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use gantry_store::hash::DigestHasher;
use gantry_store::progress::SilentProgress;
use gantry_store::{DamagePolicy, Store, WriteStart};

/// As much as one read of a socket gives at most.
const CHUNK: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [way, file, folder] = arguments.as_slice() else {
        return Err("usage: store_throughput add|verify|write FILE FOLDER".into());
    };
    let file = Path::new(file);
    let store = Store::open(folder)?;
    let size = file.metadata()?.len();
    match way.to_str() {
        Some("add") => timed("add_file", size, || Ok(store.add_file(file).map(drop)?)),
        Some("write") => write(&store, file, size),
        Some("verify") => timed("verify, 1 thread", size, || {
            Ok(store.verify(DamagePolicy::Keep, NonZeroUsize::MIN, &SilentProgress).map(drop)?)
        }),
        _ => Err("the way must be add, verify or write".into()),
    }
}

/// As a download does it: the digest is known, the bytes come in chunks.
fn write(store: &Store, file: &Path, size: u64) -> Result<(), Box<dyn Error>> {
    let mut hash = DigestHasher::new_sha256();
    let mut chunk = vec![0; CHUNK];
    read(file, &mut chunk, |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    let digest = hash.finish();
    timed("writer, 64 KiB chunks", size, || {
        let WriteStart::Writer(mut writer) = store.open_writer(&digest, size)? else {
            return Err("the blob is there already: give an empty folder".into());
        };
        read(file, &mut chunk, |bytes| Ok(writer.write(bytes)?))?;
        Ok(writer.commit()?)
    })
}

fn read(
    file: &Path,
    chunk: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut reader = File::open(file)?;
    loop {
        match reader.read(chunk)? {
            0 => return Ok(()),
            read => take(&chunk[..read])?,
        }
    }
}

fn timed(
    what: &str,
    size: u64,
    work: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} MB/s", size as f64 / seconds / 1e6);
    Ok(())
}
