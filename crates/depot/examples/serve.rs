//! Serves a store or the volumes of a bundle without the command line, to measure the doors alone:
//! `serve ADDRESS STORE | VOLUME…`. Says how long it took to be ready.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use gantry_depot::Depot;
use store::Source;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    let mut arguments = std::env::args_os().skip(1);
    let listen = arguments.next().ok_or("usage: serve ADDRESS STORE | VOLUME…")?;
    let listen = listen.to_string_lossy().parse()?;
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let source: Arc<dyn Source> = match paths.as_slice() {
        [folder] if folder.is_dir() => Arc::new(store::Store::existing(folder)?),
        volumes => Arc::new(bundle::Bundle::open(volumes)?),
    };
    let depot = Arc::new(Depot::open(source)?);
    let summary = depot.summary();
    let config = net::serve::Config { listen, tls: None };
    let running = net::serve::start(&config, gantry_depot::router(depot)).await?;
    println!("listening on {} after {:?}: {summary:?}", running.address(), begin.elapsed());
    std::future::pending().await
}
