//! `gantry serve`: the depot, a server for the content of a store or of bundle files.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use depot::Depot;
use net::serve::{HttpService, ListenConfig, TlsFiles};
use serde::Serialize;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::value_parsers::number_within;

/// The time that running requests get to finish after Ctrl-C or SIGTERM. Kubernetes kills a pod 30
/// seconds after SIGTERM by default.
const DRAIN: Duration = Duration::from_secs(30);

/// Serve the content of a store or of bundle files as an OCI registry and a Hugging Face Hub.
///
/// Nothing is unpacked: blobs are read directly from the store or the bundle files. One port has all
/// endpoints: an OCI registry to pull from (for skopeo, crane, helm, and containerd as a mirror), the
/// API of the Hugging Face Hub (for HF_ENDPOINT), plain files and models from URLs under /files/,
/// /metrics, /healthz and /readyz.
///
/// Blobs are verified while nothing is sent, and at the latest when they are sent for the first time. A
/// damaged one is answered with an error, or its connection is closed before the last byte; /readyz and
/// /metrics name it. /readyz fails when the medium is gone.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry serve /media/disk/*.gantry --listen 0.0.0.0:5000
  gantry serve                                   # the store, on 127.0.0.1:5000
  skopeo copy docker://depot:5000/docker.io/library/nginx:1.25 oci:nginx
  HF_ENDPOINT=http://depot:5000 hf download BAAI/bge-m3
  curl -O http://depot:5000/files/llama.gguf
  helm pull oci://depot:5000/org/charts/app --version 1.2.3 --plain-http")]
pub(crate) struct ServeArgs {
    /// Bundle files, folders of bundle files, the .gantry.json beside them, or one store folder
    /// [default: the store].
    #[arg(value_name = "STORE or BUNDLE")]
    sources: Vec<PathBuf>,
    /// The address to listen on; with port 0 the system chooses a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    listen: String,
    /// The certificate chain for TLS, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key for TLS, as a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How many requests of one client address are answered at the same time; further ones wait. Raise it
    /// behind a proxy, which is one client.
    #[arg(long, value_name = "N", default_value = "512",
          value_parser = number_within(1..=4096))]
    requests_per_client: u16,
    /// When blobs are verified: in the background while nothing is sent, each once a day, so that first
    /// requests are fast and damage is known early; or only when a blob is sent for the first time.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = VerifyTime::Background)]
    verify: VerifyTime,
}

/// When blobs are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum VerifyTime {
    Background,
    OnRequest,
}

/// The result, once the server answers.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DepotReady {
    pub(super) url: String,
    #[serde(flatten)]
    pub(super) summary: depot::DepotSummary,
}

pub(crate) fn run(context: &CommandContext, args: &ServeArgs) -> Result<()> {
    let listen = parse_listen_address(&args.listen)?;
    let source: Arc<dyn store::Source> = if args.sources.is_empty() {
        let Some(store) = context.open_existing_store()? else {
            let path = context.store_path()?;
            return Err(CommandError::usage_error(format!(
                "there is no store at {}",
                path.display()
            ))
            .with_hint("name a store or bundle files, or fill the store with: gantry fetch"));
        };
        Arc::new(store)
    } else {
        environment::open_served_source(&args.sources)?
    };
    let depot = Arc::new(Depot::open(source)?);
    for left_out in &depot.summarize().left_out {
        context.ui.print_warning(&format!("{} is not served: {}", left_out.name, left_out.reason));
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(TlsFiles { certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let config = ListenConfig { listen, tls };
    // Not `block_on` of `environment`: Ctrl-C is the normal end of a server and no error.
    let runtime = environment::build_runtime()?;
    runtime.block_on(async {
        let mut service = HttpService::new(depot::build_router(Arc::clone(&depot)));
        depot.register_metrics(&mut service.metrics);
        service.readiness = Arc::clone(&depot) as Arc<dyn net::serve::ReadinessProbe>;
        service.limits.requests_per_client = usize::from(args.requests_per_client);
        let running = net::serve::start_service(&config, service).await?;
        let ready = DepotReady {
            url: format!("{scheme}://{}", running.address()),
            summary: depot.summarize(),
        };
        // Printed to stdout as soon as the server answers, since scripts wait for this line.
        context.ui.print_result(&ready, format_ready)?;
        if args.verify == VerifyTime::Background {
            tokio::spawn(Arc::clone(&depot).verify_in_background());
        }
        environment::wait_for_stop().await;
        context.ui.print_status("stopping; running requests may finish");
        running.drain_requests(DRAIN).await;
        Ok(())
    })
}

pub(super) fn format_ready(ready: &DepotReady) -> String {
    let roots = ready.summary.roots.iter();
    let roots: Vec<String> = roots
        .map(|(kind, count)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    let what = if roots.is_empty() { "an empty store".to_owned() } else { roots.join(", ") };
    format!("serving {what} on {}", ready.url)
}

/// Parses `--listen`: ADDRESS:PORT, NAME:PORT or :PORT.
pub(super) fn parse_listen_address(text: &str) -> Result<SocketAddr> {
    let wrong = |reason: String| {
        CommandError::usage_error(format!("--listen {text}: {reason}"))
            .with_hint("write ADDRESS:PORT, such as 127.0.0.1:5000 or 0.0.0.0:5000")
    };
    // `:5000` means all addresses, as in Go programs such as docker's registry.
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let mut found = full.to_socket_addrs().map_err(|cause| wrong(cause.to_string()))?;
    found.next().ok_or_else(|| wrong("the name has no address".into()))
}
