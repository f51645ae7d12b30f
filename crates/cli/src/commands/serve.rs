//! `gantry serve`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use depot::Depot;
use net::serve::{Config, TlsFiles};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// Requests under way get this long to finish when the depot is told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// Serve a store, or volumes where they lie, as a registry and a Hugging Face Hub.
///
/// Nothing is unpacked: blobs are read from where they are. On one port: an OCI registry to pull
/// from (skopeo, crane, helm, containerd as a mirror), the Hub's API for HF_ENDPOINT, /metrics,
/// /healthz and /readyz.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry serve /media/disk/*.gantry --listen 0.0.0.0:5000
  gantry serve                                   # the store, on 127.0.0.1:5000
  skopeo copy docker://depot:5000/docker.io/library/nginx:1.25 oci:nginx
  HF_ENDPOINT=http://depot:5000 hf download BAAI/bge-m3
  helm pull oci://depot:5000/org/charts/app --version 1.2.3 --plain-http")]
pub(crate) struct Args {
    /// Volume files, folders with volumes, the .gantry.json beside them, or one store folder
    /// [default: the store].
    #[arg(value_name = "STORE or VOLUME")]
    sources: Vec<PathBuf>,
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    listen: String,
    /// The certificate chain for TLS, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key for TLS, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    url: String,
    #[serde(flatten)]
    summary: depot::Summary,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let listen = address(&args.listen)?;
    let source: Arc<dyn store::Source> = if args.sources.is_empty() {
        let Some(store) = context.existing_store()? else {
            let path = context.store_path()?;
            return Err(CommandError::usage(format!("there is no store at {}", path.display()))
                .hint("name a store or volumes, or fill one with: gantry fetch"));
        };
        Arc::new(store)
    } else {
        world::source(&args.sources)?
    };
    let depot = Arc::new(Depot::open(source)?);
    for left_out in &depot.summary().left_out {
        context.ui.warn(&format!("{} is not served: {}", left_out.name, left_out.reason));
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(TlsFiles { certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let config = Config { listen, tls };
    let runtime = world::runtime()?;
    runtime.block_on(async {
        let running = net::serve::start(&config, depot::router(Arc::clone(&depot))).await?;
        let ready =
            Ready { url: format!("{scheme}://{}", running.address()), summary: depot.summary() };
        // On stdout, at once: scripts wait for this line.
        context.ui.result(&ready, |ready| {
            let roots: Vec<_> = ready
                .summary
                .roots
                .iter()
                .map(|(kind, count)| {
                    format!("{count} {kind}{}", if *count == 1 { "" } else { "s" })
                })
                .collect();
            let what =
                if roots.is_empty() { "an empty store".to_owned() } else { roots.join(", ") };
            format!("serving {what} on {}", ready.url)
        })?;
        world::stopped().await;
        context.ui.status("stopping: requests under way may finish");
        running.drain(DRAIN).await;
        Ok(())
    })
}

pub(super) fn address(text: &str) -> Result<SocketAddr> {
    let wrong = |reason: String| {
        CommandError::usage(format!("--listen {text}: {reason}"))
            .hint("write ADDRESS:PORT, such as 127.0.0.1:5000 or 0.0.0.0:5000")
    };
    // `:5000` is how many tools write "everywhere".
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let mut found = full.to_socket_addrs().map_err(|cause| wrong(cause.to_string()))?;
    found.next().ok_or_else(|| wrong("it names no address".into()))
}
