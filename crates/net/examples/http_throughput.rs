//! How fast bytes are read from a file, sent by the HTTP server and received by the client.
//!
//! `cargo run --release -p gantry-net --example http_throughput -- FILE [CONNECTIONS] [URL]`: with a URL
//! (of the same file, at nginx for instance) the client alone is measured; `serve` as the number of
//! connections serves until it is killed, for curl.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use gantry_net::serve::{ListenConfig, start_server};
use gantry_net::{Client, HttpRequest};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its result")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which file?")?);
    let count = arguments.next().unwrap_or_else(|| "1".into());
    let size = path.metadata()?.len();
    let router = Router::new().route(
        "/file",
        get(move || async move {
            let body = gantry_net::body::stream_reader(
                gantry_net::body::ReadAhead::OnceTaken,
                move || File::open(path),
            );
            ([("content-length", size.to_string())], Body::from_stream(body))
        }),
    );
    let config = ListenConfig { listen: ([127, 0, 0, 1], 0).into(), tls: None };
    let running = start_server(&config, router).await?;
    let own = format!("http://{}/file", running.address());
    if count == "serve" {
        println!("{own}");
        std::future::pending::<()>().await;
    }
    let url = arguments.next().unwrap_or(own);
    let connections: u64 = count.parse()?;
    let client = Client::builder().build()?;

    let started = Instant::now();
    let transfers = (0..connections).map(|_| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move {
            let mut download = client.download(HttpRequest::get(&url)?, 0, Some(size));
            let mut chunks = 0_u64;
            while let Some(_chunk) = download.next_chunk().await? {
                chunks += 1;
            }
            Ok::<_, gantry_net::Error>(chunks)
        })
    });
    let mut chunks = 0;
    for transfer in futures::future::join_all(transfers).await {
        chunks += transfer??;
    }
    let (seconds, bytes) = (started.elapsed().as_secs_f64(), size * connections);
    let peak = std::fs::read_to_string("/proc/self/status")?;
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (rate, mean) = (bytes as f64 / seconds / 1e9, bytes as f64 / chunks as f64 / 1024.0);
    println!("{rate:.2} GB/s, {mean:.0} KiB a chunk, {peak}");
    Ok(())
}
