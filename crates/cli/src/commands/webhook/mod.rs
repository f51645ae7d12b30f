//! `gantry webhook`: serves the mutating admission webhook; `gantry webhook manifests` writes what a
//! cluster needs for it.

mod manifests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use net::serve::{Config, TlsFiles};
use operator::webhook::{Files, Keep, Pin, Webhook, host_of, router};
use policy::Namespace;
use serde::Serialize;
use types::site::Site;

use super::serve::address;
use crate::clusters::{self, ClusterArgs};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// Requests under way get this long to finish; the API server waits 5 seconds for each.
const DRAIN: Duration = Duration::from_secs(10);

/// Move the images that no overlay reached, when their pods are made.
///
/// The API server asks it about each new pod of a namespace that is labelled
/// gantry.dev/guard=enforce: an image that is locked under its source's name gets the site's name,
/// anything that is not locked is refused. With gantry.dev/guard=move nothing is refused. Other
/// namespaces are never touched.
///
/// `gantry webhook manifests --apply` brings it into a cluster, where it runs from Gantry's own image
/// with a certificate that it makes and renews itself. Here it serves.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:
  gantry webhook manifests --site site.yaml --apply
  kubectl label namespace shop gantry.dev/guard=enforce
  gantry webhook --site site.yaml --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key
  gantry webhook --site site.yaml --self-made gantry-system/gantry-webhook --host 10.0.0.5

How it fails closed and never bricks a cluster: docs/webhook.md"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(clap::Subcommand)]
enum Command {
    Manifests(manifests::Args),
}

/// What is locked, and where it is at the site.
#[derive(clap::Args)]
struct Locked {
    /// The site's description: its registry, naming and pull secret.
    // Optional to the parser, since `manifests` has its own; required by the command line.
    #[arg(long, value_name = "FILE", required = true)]
    site: Option<PathBuf>,
    /// A lock whose images are moved; may be given several times [default: gantry.lock].
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// A receipt of `gantry load`: tells which indexes the registry could only take in another form;
    /// may be given several times.
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// Give each image its locked digest as well: a tag can be pushed again, a digest cannot.
    #[arg(long)]
    digests: bool,
}

#[derive(clap::Args)]
struct Serve {
    #[command(flatten)]
    locked: Locked,
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: String,
    /// The certificate chain, a PEM file; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "self_made")]
    tls_cert: Option<PathBuf>,
    /// The private key, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Make the certificate, keep and renew it in this Secret, and write its authority into the
    /// configuration.
    #[arg(
        long,
        value_name = "NAMESPACE/SECRET",
        requires = "host",
        required_unless_present = "tls_cert"
    )]
    self_made: Option<String>,
    /// Whom the API server asks: the DNS name or address that the certificate is for.
    #[arg(long, value_name = "HOST", requires = "self_made")]
    host: Option<String>,
    /// The MutatingWebhookConfiguration that gets the authority.
    #[arg(long, value_name = "NAME", default_value = operator::webhook::manifests::NAME)]
    configuration: String,
    /// Seconds to go on answering after SIGTERM, until the cluster asks another pod.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60))]
    linger: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    url: String,
    repositories: usize,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    match &args.command {
        Some(Command::Manifests(args)) => manifests::run(context, args),
        None => serve(context, &args.serve),
    }
}

fn serve(context: &Context, args: &Serve) -> Result<()> {
    let listen = address(&args.listen)?;
    let files = args.locked.files(context)?;
    // Bad files are told before a cluster is asked.
    files.read()?;
    let site = args.locked.site()?;
    world::runtime()?.block_on(async {
        let folder = tempfile::tempdir().map_err(|cause| {
            CommandError::failed(format!("cannot make a temporary folder: {cause}"))
        })?;
        let tls = certificate(context, args, &site, folder.path().to_owned()).await?;
        let webhook = Webhook::start(files)?;
        let (repositories, numbers) = (webhook.repositories(), webhook.metrics());
        let config = Config { listen, tls: Some(tls) };
        let running = net::serve::start_with(&config, router(webhook), numbers).await?;
        let ready = Ready { url: format!("https://{}", running.address()), repositories };
        // On stdout, at once: scripts wait for this line.
        context.ui.result(&ready, |ready| {
            format!("answering for {} repositories on {}", ready.repositories, ready.url)
        })?;
        world::stopped().await;
        context.ui.status("stopping: requests under way may finish");
        tokio::time::sleep(Duration::from_secs(args.linger)).await;
        running.drain(DRAIN).await;
        Ok(())
    })
}

async fn certificate(
    context: &Context,
    args: &Serve,
    site: &Site,
    folder: PathBuf,
) -> Result<TlsFiles> {
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        return Ok(TlsFiles { certificate: certificate.clone(), key: key.clone() });
    }
    let (Some(self_made), Some(host)) = (&args.self_made, &args.host) else {
        return Err(CommandError::usage(
            "give --tls-cert and --tls-key, or --self-made and --host",
        ));
    };
    let (namespace, secret) = self_made.split_once('/').ok_or_else(|| {
        CommandError::usage(format!("--self-made {self_made}: write NAMESPACE/SECRET"))
    })?;
    let namespace = namespace.parse::<Namespace>()?.to_string();
    // The same form that a URL's host has.
    let host = host_of(&format!("https://{host}"))?;
    let doing = format!("keep the webhook's certificate in the Secret {self_made}");
    let cluster = clusters::open_to_write(context, &args.cluster, Some(site), &doing).await?;
    let keep = Keep {
        cluster,
        namespace,
        secret: secret.to_owned(),
        configuration: args.configuration.clone(),
        host,
        folder,
    };
    Ok(keep.start().await?)
}

impl Locked {
    fn pin(&self) -> Pin {
        if self.digests { Pin::Digest } else { Pin::AsNamed }
    }

    fn site_file(&self) -> Result<&Path> {
        self.site.as_deref().ok_or_else(|| CommandError::usage("give the site: --site FILE"))
    }

    fn site(&self) -> Result<Site> {
        world::site(self.site_file()?)
    }

    fn files(&self, context: &Context) -> Result<Files> {
        let locks = match self.lock.as_slice() {
            [] => vec![context.file(world::LOCK)],
            paths => paths.to_vec(),
        };
        Ok(Files {
            site: self.site_file()?.to_owned(),
            locks,
            receipts: self.receipt.clone(),
            pin: self.pin(),
        })
    }
}
