//! `gantry webhook manifests`: writes or applies the objects that run the webhook in a cluster.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use deploy::release::{PullSecret, SiteNamespaceObjects, SiteObjects};
use operator::namespaces::NamespaceRights;
use operator::webhook::manifests::{CertificateSource, NAME, NAMESPACE, WebhookDeployment};
use operator::webhook::{LABEL, WebhookAddress, apply_manifests, host_of_url};
use policy::Namespace;
use serde::Serialize;
use serde_json::Value;
use types::site::{RegistryTarget, Site, site_folder};

use super::locked_files::LockedFilesArgs;
use crate::clusters::{self, ClusterArgs};
use crate::commands::manifest_output::{ManifestOutputArgs, WrittenObject, describe_objects};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// Write or apply the manifests that run the webhook in a cluster.
///
/// They run two pods of Gantry's own image from the site's registry, with the locks in a ConfigMap and a
/// certificate that the pods create themselves. The pods have rights on two named objects only. The
/// webhook is called only for pods in labelled namespaces, never in kube-system or its own namespace.
/// Run the same command with another lock to update it.
///
/// If site.yaml has `namespaces:`, the pods also keep the pull secret, the CA, the service accounts and
/// the policies of these namespaces, as new ones appear. The pull secret is copied from the one in the
/// webhook's namespace. Their rights are for the names of these objects, and an admission rule restricts
/// them to the namespaces that site.yaml selects.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry webhook manifests --site site.yaml --apply
  gantry webhook manifests --site site.yaml --digests -o webhook.yaml
  gantry webhook manifests --site site.yaml --lock gantry.lock --lock old.lock --apply
  gantry webhook manifests --site site.yaml --tls-secret webhook-tls --ca ca.crt -o webhook.yaml
  gantry webhook manifests --site site.yaml --url https://10.0.0.5:8443 --ca ca.crt
                                              # for a webhook that runs outside the cluster")]
pub(super) struct WebhookManifestsArgs {
    #[command(flatten)]
    locked: LockedFilesArgs,
    /// The namespace to run the webhook in.
    #[arg(short, long, value_name = "NAMESPACE", default_value = NAMESPACE)]
    namespace: Namespace,
    /// The name of the webhook and its objects.
    #[arg(long, value_name = "NAME", default_value = NAME)]
    name: Namespace,
    /// Restrict the webhook to this namespace, if it is labelled; may be given several times [default:
    /// all labelled namespaces].
    #[arg(long, value_name = "NAMESPACE")]
    only: Vec<Namespace>,
    /// The image to run [default: Gantry's own image in the site's registry, as locked].
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    /// The address of a webhook that runs outside the cluster, such as https://guard.example:8443. Only the webhook
    /// configuration is written then.
    #[arg(long, value_name = "URL", conflicts_with_all = ["image", "tls_secret"])]
    url: Option<String>,
    /// Use the certificate in this Secret of type kubernetes.io/tls, which something else maintains, such
    /// as cert-manager.
    #[arg(long, value_name = "SECRET", requires = "ca")]
    tls_secret: Option<Namespace>,
    /// A PEM file with the CA certificate for --tls-secret or --url.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Apply the manifests to the cluster, and wait until the webhook answers.
    #[arg(long, conflicts_with = "out")]
    apply: bool,
    #[command(flatten)]
    target: ManifestOutputArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl WebhookManifestsArgs {
    /// The path of `--site`.
    pub(super) fn site_mut(&mut self) -> Option<&mut PathBuf> {
        self.locked.site.as_mut()
    }
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookManifestsSummary {
    name: String,
    namespace: String,
    objects: Vec<AppliedObject>,
    /// The file; absent if the manifests are printed or applied.
    #[serde(rename = "file", skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, if they are neither written to a file nor applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AppliedObject {
    #[serde(flatten)]
    object: WrittenObject,
    /// What applying it did; absent if it was not applied.
    #[serde(rename = "outcome", skip_serializing_if = "Option::is_none")]
    applied: Option<cluster::ApplyEffect>,
}

pub(super) fn run(context: &CommandContext, args: &WebhookManifestsArgs) -> Result<()> {
    args.target.check_path()?;
    let site = args.locked.read_site()?;
    let locks = match args.locked.lock.as_slice() {
        [] => vec![environment::read_lock(context)?],
        paths => paths.iter().map(|path| environment::read_lock_at(path)).collect::<Result<_>>()?,
    };
    let receipts = args.locked.receipt.iter().map(|path| environment::read_receipt(path));
    let registry = site.registry.with_paths_below(site_folder(args.locked.site_file()?));
    let rights = read_namespace_rights(&site, &registry)?;
    let ca = if rights.is_some() { remote::site_registry::read_ca(&registry)? } else { None };
    let only: Vec<String> = args.only.iter().map(Namespace::to_string).collect();
    let request = WebhookDeployment {
        name: args.name.as_str(),
        namespace: args.namespace.as_str(),
        locks: &locks,
        receipts: &receipts.collect::<Result<Vec<_>>>()?,
        site: &site,
        pin: args.locked.pin(),
        image: args.image.as_deref(),
        address: choose_address(args)?,
        certificate: read_certificate(args)?,
        only: &only,
        namespaces: rights.as_ref(),
        ca: ca.as_deref(),
    };
    let manifests = request.build_manifests()?;
    let applied = if args.apply {
        environment::block_on(async {
            // Applied with server-side apply, so that fields which the webhook itself fills in (the CA) stay.
            let doing = format!("apply the {} objects of the webhook", manifests.len());
            let cluster =
                clusters::open_cluster_to_write(context, &args.cluster, Some(&site), &doing)
                    .await?;
            context.ui.print_status("waiting until the webhook answers");
            Ok(apply_manifests(&cluster, &manifests, request.namespace).await?)
        })?
        .into_iter()
        .map(Some)
        .collect()
    } else {
        args.target.write_manifests(context, &build_header(), &manifests)?;
        vec![None; manifests.len()]
    };
    let file = args.target.file().map(|path| path.display().to_string());
    let objects = describe_objects(&manifests).into_iter().zip(applied);
    let outcome = WebhookManifestsSummary {
        name: args.name.to_string(),
        namespace: args.namespace.to_string(),
        objects: objects.map(|(object, applied)| AppliedObject { object, applied }).collect(),
        manifests: if file.is_none() && !args.apply { manifests } else { vec![] },
        written: file,
    };
    match args.apply || outcome.written.is_some() || context.ui.is_json() {
        true => context.ui.print_result(&outcome, format_summary),
        false => Ok(()),
    }
}

/// The rights to keep the site's objects in its namespaces; `None` if it names none.
fn read_namespace_rights(
    site: &Site,
    registry: &RegistryTarget,
) -> Result<Option<NamespaceRights>> {
    let Some(namespaces) = site.namespaces.clone() else { return Ok(None) };
    // Only the names of the objects are of interest, and not the credential.
    let name = site.registry.pull_secret.clone();
    let pull_secret = name.map(|name| PullSecret { name, host: String::new(), credential: None });
    let objects = SiteObjects::with_pull_secret(site, registry, pull_secret)?;
    let objects = SiteNamespaceObjects::of_site(site, objects)?.list_object_names()?;
    Ok(Some(NamespaceRights { objects, namespaces }))
}

fn choose_address(args: &WebhookManifestsArgs) -> Result<WebhookAddress> {
    let Some(url) = &args.url else { return Ok(WebhookAddress::Service) };
    host_of_url(url)?;
    Ok(WebhookAddress::Url(url.clone()))
}

fn read_certificate(args: &WebhookManifestsArgs) -> Result<CertificateSource> {
    let Some(ca) = &args.ca else { return Ok(CertificateSource::SelfSigned) };
    let shown = ca.display();
    let pem = fs::read_to_string(ca)
        .map_err(|cause| CommandError::usage_error(format!("cannot read {shown}: {cause}")))?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(CommandError::usage_error(format!("{shown} contains no PEM certificate"))
            .with_hint("give the CA certificate: --ca ca.crt"));
    }
    match (&args.tls_secret, &args.url) {
        (None, None) => Err(CommandError::usage_error(
            "--ca is only for a certificate that the webhook does not create itself",
        )
        .with_hint("name the Secret of that certificate: --tls-secret SECRET")),
        (secret, _) => Ok(CertificateSource::Given {
            secret: secret.as_ref().map(Namespace::to_string),
            authority: pem,
        }),
    }
}

/// The lines of the comment in front of the manifests.
fn build_header() -> Vec<String> {
    vec![
        "Written by `gantry webhook manifests`. The webhook acts only in namespaces with this label:"
            .to_owned(),
        format!("kubectl label namespace NAMESPACE {LABEL}=enforce     (=move refuses nothing)"),
    ]
}

fn format_summary(outcome: &WebhookManifestsSummary) -> String {
    let mut text = String::new();
    for AppliedObject { object, applied } in &outcome.objects {
        let namespace = object.namespace.as_deref().map(|n| format!("{n}/")).unwrap_or_default();
        let done = match applied {
            Some(cluster::ApplyEffect::Created) => " created",
            Some(cluster::ApplyEffect::Changed) => " changed",
            Some(cluster::ApplyEffect::Same) => " unchanged",
            None => "",
        };
        let _ = writeln!(text, "{} {namespace}{}{done}", object.kind, object.name);
    }
    if let Some(file) = &outcome.written {
        let _ =
            writeln!(text, "{file} written; apply it with: kubectl apply --server-side -f {file}");
    }
    let _ = writeln!(
        text,
        "enable it in a namespace with: kubectl label namespace NAMESPACE {LABEL}=enforce"
    );
    text
}
