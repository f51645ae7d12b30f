//! `gantry audit sink` and `gantry audit watch-node`: the parts of an audit that run in the cluster, from
//! Gantry's own image. They print what they record as lines of JSON; the audit reads them as pod logs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use egress::sink::{DnsSink, ObserverOutput};
use egress::{ObserverMessage, Perimeter, connections};
use ipnet::IpNet;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// Run a DNS server that answers every query with "no such name" and records who asked.
///
/// CoreDNS forwards to it; `gantry audit --soak` starts it as a pod and configures CoreDNS. It answers
/// over UDP and TCP. The client's address is taken from the EDNS0 option 0xfeed, which CoreDNS adds
/// with `rewrite edns0 local set 0xfeed {client_ip}`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry audit sink --listen 10.0.0.9:5353        # then, in the Corefile: forward . 10.0.0.9:5353")]
pub(super) struct AuditSinkArgs {
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:5353")]
    listen: SocketAddr,
    /// Query this DNS server, to find out whether it forwards to this one; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    probe: Vec<SocketAddr>,
}

/// Record the connections that leave this node or try to.
///
/// Reads the first packet of every connection on all interfaces of its network namespace, which needs
/// root with NET_RAW; otherwise it reads the kernel's connection table. `gantry audit --soak` starts one
/// on every node.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  sudo gantry audit watch-node --inside 10.244.0.0/16 --inside 10.96.0.0/12 --inside 10.0.0.0/24")]
pub(super) struct AuditWatchNodeArgs {
    /// A network that counts as inside; may be given several times.
    #[arg(long, value_name = "CIDR", required = true)]
    inside: Vec<IpNet>,
}

pub(super) fn run_dns_sink(context: &CommandContext, args: &AuditSinkArgs) -> Result<()> {
    let tell = build_line_printer(context);
    environment::build_runtime()?.block_on(async {
        let sink = DnsSink::bind(args.listen, &args.probe, tell).await?;
        sink.serve(environment::wait_for_stop()).await;
        Ok(())
    })
}

pub(super) fn watch_node(context: &CommandContext, args: &AuditWatchNodeArgs) -> Result<()> {
    let inside = Perimeter::from_networks(args.inside.iter().copied());
    let tell = build_line_printer(context);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    // Reading packets blocks, so it has a thread of its own; the runtime here only waits for the signal.
    let watching = std::thread::spawn(move || connections::watch_node(&inside, &tell, &stopping));
    environment::build_runtime()?.block_on(environment::wait_for_stop());
    stop.store(true, Ordering::Relaxed);
    watching.join().map_err(|_| {
        CommandError::failure("the watcher stopped unexpectedly; run the same command again")
    })
}

fn build_line_printer(context: &CommandContext) -> ObserverOutput {
    let ui = context.ui.clone();
    Arc::new(move |line: ObserverMessage| {
        if let Ok(text) = serde_json::to_string(&line) {
            // If standard output is closed, there is nobody left to report that to.
            let _ = ui.print_document(&format!("{text}\n"));
        }
    })
}
