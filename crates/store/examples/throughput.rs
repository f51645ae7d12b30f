//! How fast bytes come into a store: `throughput FILE FOLDER`, one line a way, seconds and MB/s.
//!
//! The floor is what plain tools need for the same work; alternate the two, the page cache is
//! warm after the first:
//! `cp FILE COPY; openssl dgst -sha256 FILE`
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement for people")]

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use gantry_store::progress::Silent;
use gantry_store::{Begin, Damage, Store};

/// As much as one read of a socket gives at most.
const CHUNK: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: throughput FILE FOLDER".into());
    };
    let (file, folder) = (Path::new(&file), Path::new(&folder));
    let size = file.metadata()?.len();

    let store = Store::open(folder.join("add"))?;
    let (digest, _) = timed("add_file", size, || store.add_file(file))?;
    timed("verify, 1 thread", size, || {
        store.verify(Damage::Keep, std::num::NonZeroUsize::MIN, &Silent)
    })?;
    let written = Store::open(folder.join("write"))?;
    timed("writer, 64 KiB chunks", size, || -> Result<(), Box<dyn Error>> {
        let Begin::Writer(mut writer) = written.writer(&digest, size)? else {
            return Err("the blob is there already: name an empty folder".into());
        };
        let mut reader = File::open(file)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk)? {
                0 => break,
                read => writer.write(&chunk[..read])?,
            }
        }
        Ok(writer.commit()?)
    })?;
    Ok(())
}

fn timed<T, E>(what: &str, size: u64, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {seconds:.2} s, {:.0} MB/s", size as f64 / seconds / 1e6);
    Ok(result)
}
