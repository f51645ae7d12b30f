//! `gantry audit sink` and `gantry audit watch-node`: what of an audit runs in the cluster, from
//! Gantry's own image. They tell what they see as lines of JSON on standard output.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use egress::sink::{Sink, Tell};
use egress::{Inside, Line, connections};
use ipnet::IpNet;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// Answer every name with "no such name", and tell who asked.
///
/// A name server for CoreDNS to forward to; `gantry audit --soak` starts it as a pod and sends names
/// to it. It answers over UDP and TCP. Who asked is in the EDNS0 option 0xfeed, which CoreDNS puts
/// in by `rewrite edns0 local set 0xfeed {client_ip}`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry audit sink --listen 10.0.0.9:5353        # then, in the Corefile: forward . 10.0.0.9:5353")]
pub(super) struct SinkArgs {
    /// Where it listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:5353")]
    listen: SocketAddr,
    /// A name server to be asked, to know that it forwards to this sink; may be given several times.
    #[arg(long, value_name = "ADDRESS:PORT")]
    probe: Vec<SocketAddr>,
}

/// Tell what leaves this node, or tries to.
///
/// Reads the first packet of every connection from all interfaces of the network namespace that it
/// runs in (root with NET_RAW), else the kernel's table of connections. `gantry audit --soak` starts
/// one on every node.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  sudo gantry audit watch-node --inside 10.244.0.0/16 --inside 10.96.0.0/12 --inside 10.0.0.0/24")]
pub(super) struct WatchArgs {
    /// A network that is inside; may be given several times.
    #[arg(long, value_name = "CIDR", required = true)]
    inside: Vec<IpNet>,
}

pub(super) fn sink(context: &Context, args: &SinkArgs) -> Result<()> {
    let tell = tell(context);
    world::runtime()?.block_on(async {
        let sink = Sink::bind(args.listen, &args.probe, tell).await?;
        sink.serve(world::stopped()).await;
        Ok(())
    })
}

pub(super) fn watch(context: &Context, args: &WatchArgs) -> Result<()> {
    let inside = Inside::of_networks(args.inside.iter().copied());
    let tell = tell(context);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let watching = std::thread::spawn(move || connections::watch(&inside, &tell, &stopping));
    world::runtime()?.block_on(world::stopped());
    stop.store(true, Ordering::Relaxed);
    watching.join().map_err(|_| CommandError::failed("the watcher broke off"))
}

fn tell(context: &Context) -> Tell {
    let ui = context.ui.clone();
    Arc::new(move |line: Line| {
        if let Ok(text) = serde_json::to_string(&line) {
            // Nobody listens any more: there is nobody to tell that either.
            let _ = ui.print(&text);
        }
    })
}
