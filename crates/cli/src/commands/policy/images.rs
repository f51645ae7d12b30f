//! `gantry policy images`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use policy::images::{self, Action, Kind, Request};
use policy::{Admit, Allowed, Label, Namespace, Scope};
use serde::Serialize;
use serde_json::Value;
use types::lock::Lock;
use types::receipt::Receipt;

use super::{Target, Written, written};
use crate::context::Context;
use crate::error::Result;
use crate::world;

/// Admit only what was locked: pods, and all that makes pods, with the site's names of locked images.
///
/// Containers of every sort count, ephemeral ones and image volumes too. An image is admitted by a
/// locked tag or a locked digest, with --digests by digest alone. It fails closed: an error, or a
/// list that is gone, refuses. What ran before the policy goes on, and may be updated as long as no
/// foreign image comes in.
///
/// Without --namespace all namespaces are guarded but the cluster's and Gantry's own; try that with
/// --warn first.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry policy images --site site.yaml --namespace shop | kubectl apply --server-side -f -
  gantry policy images --site site.yaml --namespace shop --digests -o policy.yaml
  gantry policy images --site site.yaml --warn                      # all namespaces, only told
  gantry policy images --site site.yaml --namespace-label gantry=guarded
  gantry policy images --site site.yaml --kind gatekeeper -o policy.yaml
  gantry policy images --site site.yaml --lock gantry.lock --lock old.lock   # while an update rolls out

What each kind admits, its limits, and how to try it: docs/policy.md")]
pub(crate) struct Args {
    /// The site's description: its registry and naming.
    #[arg(long, value_name = "FILE")]
    site: PathBuf,
    /// A lock whose images are admitted; may be given several times [default: gantry.lock].
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// A receipt of `gantry load`: admits the digests of indexes that the registry could only take in
    /// another form; may be given several times.
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// A namespace to guard; may be given several times.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<Namespace>,
    /// Guard the namespaces with this label. Who may label namespaces may then open them.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "namespace")]
    namespace_label: Option<Label>,
    /// A namespace to leave out, beside the cluster's and Gantry's own; may be given several times.
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["namespace", "namespace_label"])]
    except: Vec<Namespace>,
    /// Whose language it is written in.
    #[arg(long, value_name = "KIND", default_value = "vap")]
    kind: KindName,
    /// Admit by locked digest alone: a tag can be pushed again, a digest cannot.
    #[arg(long)]
    digests: bool,
    /// Refuse nothing, only tell: to see what would be refused.
    #[arg(long)]
    warn: bool,
    /// The name of the policy [default: gantry-images- and the lock's name].
    #[arg(long, value_name = "NAME")]
    name: Option<Namespace>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    /// ValidatingAdmissionPolicy, in the API server itself (Kubernetes 1.30 and newer).
    Vap,
    /// Kyverno's ClusterPolicy (Kyverno 1.11 and newer).
    Kyverno,
    /// OPA Gatekeeper's ConstraintTemplate with a constraint.
    Gatekeeper,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    kind: KindName,
    name: String,
    /// How many repositories are admitted.
    repositories: usize,
    /// The namespaces that are guarded; empty when all but `left_out` are.
    guarded: Vec<String>,
    left_out: Vec<String>,
    objects: Vec<Written>,
    /// The file; absent when the manifests are printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, when they are in no file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<()> {
    args.target.check()?;
    let site = world::site(&args.site)?;
    let locks = locks(context, args)?;
    let receipts: Vec<Receipt> =
        args.receipt.iter().map(|path| world::receipt_at(path)).collect::<Result<_>>()?;
    let admit = if args.digests { Admit::Digests } else { Admit::TagsAndDigests };
    let allowed = Allowed::new(&locks, &receipts, &site.registry, admit)?;
    let repositories = allowed.len();
    let first = locks.first().map(|lock| lock.name.as_str()).unwrap_or_default();
    let request = Request {
        name: args.name.as_ref().map_or_else(|| Request::name_of(first), Namespace::to_string),
        allowed,
        scope: scope(args),
        action: if args.warn { Action::Warn } else { Action::Deny },
    };
    let kind = match args.kind {
        KindName::Vap => Kind::Vap,
        KindName::Kyverno => Kind::Kyverno,
        KindName::Gatekeeper => Kind::Gatekeeper,
    };
    let manifests = images::manifests(kind, &request)?;

    args.target.write(context, &about(args), &manifests)?;
    advise(context, args, &request);
    let file = args.target.file().map(|path| path.display().to_string());
    let outcome = Outcome {
        kind: args.kind,
        name: request.name,
        repositories,
        guarded: args.namespace.iter().map(Namespace::to_string).collect(),
        left_out: request.scope.left_out(),
        objects: written(&manifests),
        manifests: if file.is_none() { manifests } else { vec![] },
        written: file,
    };
    match outcome.written.is_some() || context.ui.is_json() {
        true => context.ui.result(&outcome, summary),
        false => Ok(()),
    }
}

fn locks(context: &Context, args: &Args) -> Result<Vec<Lock>> {
    match args.lock.as_slice() {
        [] => Ok(vec![world::lock(context)?]),
        paths => paths.iter().map(|path| world::lock_at(path)).collect(),
    }
}

fn scope(args: &Args) -> Scope {
    match &args.namespace_label {
        Some(label) => Scope::Labelled(label.clone()),
        None if args.namespace.is_empty() => Scope::AllBut(args.except.iter().cloned().collect()),
        None => Scope::Only(args.namespace.iter().cloned().collect()),
    }
}

/// The comment at the head of the manifests.
fn about(args: &Args) -> Vec<String> {
    let mut lines = vec![
        "Written by `gantry policy images`: only the site's names of locked images start."
            .to_owned(),
    ];
    if args.kind == KindName::Gatekeeper {
        lines.push("Gatekeeper makes the constraint's kind from the template: apply it, wait, and apply again.".into());
        lines.push(
            "Gatekeeper itself fails open unless its webhook's failurePolicy is Fail.".into(),
        );
    }
    lines
}

fn advise(context: &Context, args: &Args, request: &Request) {
    if !args.warn && matches!(request.scope, Scope::AllBut(_)) {
        context.ui.warn(&format!(
            "all namespaces but {} are guarded: what is in no lock given here (ingress, storage, \
             monitoring) cannot start again; try it with --warn first, or name namespaces with --namespace",
            request.scope.left_out().join(", ")
        ));
    }
}

fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for object in &outcome.objects {
        let namespace = object.namespace.as_deref().map(|n| format!("{n}/")).unwrap_or_default();
        let _ = writeln!(text, "{} {namespace}{}", object.kind, object.name);
    }
    let file = outcome.written.as_deref().unwrap_or_default();
    let _ = writeln!(
        text,
        "{} repositories admitted; {file} written, apply it with: kubectl apply --server-side -f {file}",
        outcome.repositories
    );
    text
}
