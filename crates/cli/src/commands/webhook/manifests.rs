//! `gantry webhook manifests`: writes or applies the objects that run the webhook in a cluster.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use operator::webhook::manifests::{Certificate, NAME, NAMESPACE, Request};
use operator::webhook::{Address, LABEL, apply, host_of};
use policy::Namespace;
use serde::Serialize;
use serde_json::Value;

use super::Locked;
use crate::clusters::{self, ClusterArgs};
use crate::commands::policy::{Target, Written, written};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// Write or apply the manifests that run the webhook in a cluster.
///
/// They run two pods of Gantry's own image from the site's registry, with the locks in a ConfigMap and a
/// certificate that the pods create themselves. The pods have rights on two named objects only. The
/// webhook is called only for pods in labelled namespaces, never in kube-system or its own namespace.
/// Run the same command with another lock to update it.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry webhook manifests --site site.yaml --apply
  gantry webhook manifests --site site.yaml --digests -o webhook.yaml
  gantry webhook manifests --site site.yaml --lock gantry.lock --lock old.lock --apply
  gantry webhook manifests --site site.yaml --tls-secret webhook-tls --ca ca.crt -o webhook.yaml
  gantry webhook manifests --site site.yaml --url https://10.0.0.5:8443 --ca ca.crt
                                              # for a webhook that runs outside the cluster")]
pub(super) struct Args {
    #[command(flatten)]
    locked: Locked,
    /// The namespace to run the webhook in.
    #[arg(long, value_name = "NAMESPACE", default_value = NAMESPACE)]
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
    /// The address of a webhook that runs outside the cluster (https://HOST:PORT). Only the webhook
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
    target: Target,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The result.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    name: String,
    namespace: String,
    objects: Vec<Object>,
    /// The file; absent if the manifests are printed or applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, if they are neither written to a file nor applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    #[serde(flatten)]
    object: Written,
    /// What applying it did; absent if it was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<cluster::Applied>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<()> {
    args.target.check()?;
    let site = args.locked.site()?;
    let locks = match args.locked.lock.as_slice() {
        [] => vec![world::lock(context)?],
        paths => paths.iter().map(|path| world::lock_at(path)).collect::<Result<_>>()?,
    };
    let receipts = args.locked.receipt.iter().map(|path| world::receipt_at(path));
    let only: Vec<String> = args.only.iter().map(Namespace::to_string).collect();
    let request = Request {
        name: args.name.as_str(),
        namespace: args.namespace.as_str(),
        locks: &locks,
        receipts: &receipts.collect::<Result<Vec<_>>>()?,
        site: &site,
        pin: args.locked.pin(),
        image: args.image.as_deref(),
        address: address(args)?,
        certificate: certificate(args)?,
        only: &only,
    };
    let manifests = request.manifests()?;
    let applied = if args.apply {
        world::block_on(async {
            // Applied with server-side apply, so that fields which the webhook itself fills in (the CA) stay.
            let doing = format!("apply the {} objects of the webhook", manifests.len());
            let cluster =
                clusters::open_to_write(context, &args.cluster, Some(&site), &doing).await?;
            context.ui.status("waiting until the webhook answers");
            Ok(apply(&cluster, &manifests, request.namespace).await?)
        })?
        .into_iter()
        .map(Some)
        .collect()
    } else {
        args.target.write(context, &about(), &manifests)?;
        vec![None; manifests.len()]
    };
    let file = args.target.file().map(|path| path.display().to_string());
    let objects = written(&manifests).into_iter().zip(applied);
    let outcome = Outcome {
        name: args.name.to_string(),
        namespace: args.namespace.to_string(),
        objects: objects.map(|(object, applied)| Object { object, applied }).collect(),
        manifests: if file.is_none() && !args.apply { manifests } else { vec![] },
        written: file,
    };
    match args.apply || outcome.written.is_some() || context.ui.is_json() {
        true => context.ui.result(&outcome, summary),
        false => Ok(()),
    }
}

fn address(args: &Args) -> Result<Address> {
    let Some(url) = &args.url else { return Ok(Address::Service) };
    host_of(url)?;
    Ok(Address::Url(url.clone()))
}

fn certificate(args: &Args) -> Result<Certificate> {
    let Some(ca) = &args.ca else { return Ok(Certificate::SelfMade) };
    let shown = ca.display();
    let pem = fs::read_to_string(ca)
        .map_err(|cause| CommandError::usage(format!("cannot read {shown}: {cause}")))?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(CommandError::usage(format!("{shown} contains no PEM certificate"))
            .hint("give the CA certificate: --ca ca.crt"));
    }
    match (&args.tls_secret, &args.url) {
        (None, None) => Err(CommandError::usage(
            "--ca is only for a certificate that the webhook does not create itself",
        )
        .hint("name the Secret of that certificate: --tls-secret SECRET")),
        (secret, _) => Ok(Certificate::Given {
            secret: secret.as_ref().map(Namespace::to_string),
            authority: pem,
        }),
    }
}

/// The lines of the comment in front of the manifests.
fn about() -> Vec<String> {
    vec![
        "Written by `gantry webhook manifests`. The webhook acts only in namespaces with this label:"
            .to_owned(),
        format!("kubectl label namespace NAMESPACE {LABEL}=enforce     (=move refuses nothing)"),
    ]
}

fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for Object { object, applied } in &outcome.objects {
        let namespace = object.namespace.as_deref().map(|n| format!("{n}/")).unwrap_or_default();
        let done = match applied {
            Some(cluster::Applied::Created) => " created",
            Some(cluster::Applied::Changed) => " changed",
            Some(cluster::Applied::Same) => " unchanged",
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
