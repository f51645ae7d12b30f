//! `gantry webhook`: runs the mutating admission webhook; `gantry webhook manifests` writes the objects that
//! run it in a cluster.

mod locked_files;
mod manifests;

use std::path::PathBuf;
use std::time::Duration;

use net::serve::{HttpService, ListenConfig, TlsFiles};
use operator::namespaces::NamespaceKeeper;
use operator::webhook::{CertificateKeeper, Webhook, build_router, host_of_url};
use policy::Namespace;
use serde::Serialize;
use types::site::Site;

use self::locked_files::LockedFilesArgs;
pub(crate) use self::manifests::WebhookManifestsSummary;
use super::serve::parse_listen_address;
use crate::clusters::{self, ClusterArgs};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::value_parsers::{MINUTE, duration_within};

/// The time that running requests get to finish. The API server waits 5 seconds for an answer.
const DRAIN: Duration = Duration::from_secs(10);

/// Run an admission webhook that moves images of new pods to the site's registry.
///
/// The API server calls the webhook for each new pod in a namespace with the label
/// gantry.dev/guard=enforce. A locked image under its original name is changed to its name at the site;
/// a pod with an image that is not locked is refused. With gantry.dev/guard=move, nothing is refused.
/// Other namespaces are not affected.
///
/// `gantry webhook manifests --apply` installs the webhook in a cluster, where it runs from Gantry's own
/// image with a certificate that it creates and renews itself. `gantry webhook` is the server itself.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:
  gantry webhook manifests --site site.yaml --apply
  kubectl label namespace shop gantry.dev/guard=enforce
  gantry webhook --site site.yaml --listen 0.0.0.0:8443 --tls-cert tls.crt --tls-key tls.key
  gantry webhook --site site.yaml --self-signed gantry-system/gantry-webhook --host 10.0.0.5

What happens when the webhook is down, and how a cluster recovers: docs/how-to/webhook.md"
)]
pub(crate) struct WebhookArgs {
    #[command(subcommand)]
    command: Option<WebhookCommand>,
    #[command(flatten)]
    serve: WebhookServeArgs,
}

#[derive(clap::Subcommand)]
enum WebhookCommand {
    Manifests(manifests::WebhookManifestsArgs),
}

impl WebhookArgs {
    /// The path of `--site`, of the server or of `manifests`.
    pub(super) fn site_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.command {
            Some(WebhookCommand::Manifests(args)) => args.site_mut(),
            None => self.serve.locked.site.as_mut(),
        }
    }
}

/// Options of the server.
#[derive(clap::Args)]
struct WebhookServeArgs {
    #[command(flatten)]
    locked: LockedFilesArgs,
    /// The address to listen on; with port 0 the system chooses a free port.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: String,
    /// The certificate chain as a PEM file; it is read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "self_signed")]
    tls_cert: Option<PathBuf>,
    /// The private key as a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Create and renew the certificate, store it in this Secret, and write its CA to the webhook
    /// configuration.
    #[arg(
        long,
        value_name = "NAMESPACE/SECRET",
        requires = "host",
        required_unless_present = "tls_cert",
        alias = "self-made"
    )]
    self_signed: Option<String>,
    /// The DNS name or address of the webhook for the API server, which the certificate is made for.
    #[arg(long, value_name = "HOST", requires = "self_signed")]
    host: Option<String>,
    /// The MutatingWebhookConfiguration to write the CA to.
    #[arg(long, value_name = "NAME", default_value = operator::webhook::manifests::NAME)]
    configuration: String,
    /// Keep the pull secret, the CA and the policies of site.yaml in the namespaces that it selects, as new
    /// ones appear; the pull secret is copied from the one in this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    keep_namespaces: Option<Namespace>,
    /// Continue to answer for this long after SIGTERM, until the cluster uses another pod (0s to 1m).
    #[arg(long, value_name = "TIME", default_value = "0s", alias = "linger", value_parser = duration_within(Duration::ZERO..=MINUTE))]
    shutdown_delay: Duration,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The result, once the webhook answers.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookReady {
    pub(super) url: String,
    #[serde(rename = "repositoryCount")]
    pub(super) repositories: usize,
}

pub(crate) fn run(context: &CommandContext, args: &WebhookArgs) -> Result<()> {
    match &args.command {
        Some(WebhookCommand::Manifests(args)) => manifests::run(context, args),
        None => serve_webhook(context, &args.serve),
    }
}

fn serve_webhook(context: &CommandContext, args: &WebhookServeArgs) -> Result<()> {
    let listen = parse_listen_address(&args.listen)?;
    let files = args.locked.webhook_files(context)?;
    // Read once to refuse bad files before the first request to the cluster. The webhook reads them
    // again when they change.
    files.read()?;
    let site = args.locked.read_site()?;
    environment::build_runtime()?.block_on(async {
        let folder = tempfile::tempdir().map_err(|cause| {
            CommandError::failure(format!("cannot make a temporary folder: {cause}"))
        })?;
        let tls = obtain_certificate(context, args, &site, folder.path().to_owned()).await?;
        if let Some(source) = &args.keep_namespaces {
            keep_namespaces(context, args, &site, source).await?;
        }
        let webhook = Webhook::start(files)?;
        let (repositories, numbers) = (webhook.repository_count(), webhook.metrics_registry());
        let config = ListenConfig { listen, tls: Some(tls) };
        let service = HttpService { metrics: numbers, ..HttpService::new(build_router(webhook)) };
        let running = net::serve::start_service(&config, service).await?;
        let ready = WebhookReady { url: format!("https://{}", running.address()), repositories };
        // Printed to stdout as soon as the server answers, since scripts wait for this line.
        context.ui.print_result(&ready, format_ready)?;
        environment::wait_for_stop().await;
        context.ui.print_status("stopping; running requests may finish");
        // Endpoints are removed from a Service some time after the pod got SIGTERM; requests that still come
        // must be answered, since the API server refuses the pod otherwise.
        tokio::time::sleep(args.shutdown_delay).await;
        running.drain_requests(DRAIN).await;
        Ok(())
    })
}

/// Starts to keep what the site gives to its namespaces, in the background.
async fn keep_namespaces(
    context: &CommandContext,
    args: &WebhookServeArgs,
    site: &Site,
    source: &Namespace,
) -> Result<()> {
    let doing = "keep the pull secret and the CA in the namespaces of site.yaml";
    let cluster =
        clusters::open_cluster_to_write(context, &args.cluster, Some(site), doing).await?;
    let (site, source) = (args.locked.site_file()?.to_owned(), source.to_string());
    Ok(NamespaceKeeper { cluster, site, source }.start()?)
}

pub(super) fn format_ready(ready: &WebhookReady) -> String {
    format!("webhook for {} repositories on {}", ready.repositories, ready.url)
}

async fn obtain_certificate(
    context: &CommandContext,
    args: &WebhookServeArgs,
    site: &Site,
    folder: PathBuf,
) -> Result<TlsFiles> {
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        return Ok(TlsFiles { certificate: certificate.clone(), key: key.clone() });
    }
    let (Some(self_signed), Some(host)) = (&args.self_signed, &args.host) else {
        return Err(CommandError::usage_error(
            "a certificate is needed: give --tls-cert and --tls-key, or --self-signed and --host",
        ));
    };
    let (namespace, secret) = self_signed.split_once('/').ok_or_else(|| {
        CommandError::usage_error(format!(
            "--self-signed {self_signed}: write NAMESPACE/SECRET, such as gantry-system/gantry-webhook"
        ))
    })?;
    let namespace = namespace.parse::<Namespace>()?.to_string();
    // Checked and written as the host of a URL, in which form it gets into the certificate.
    let host = host_of_url(&format!("https://{host}"))?;
    let doing = format!("keep the webhook's certificate in the Secret {self_signed}");
    let cluster =
        clusters::open_cluster_to_write(context, &args.cluster, Some(site), &doing).await?;
    let keep = CertificateKeeper {
        cluster,
        namespace,
        secret: secret.to_owned(),
        configuration: args.configuration.clone(),
        host,
        folder,
    };
    Ok(keep.start().await?)
}
