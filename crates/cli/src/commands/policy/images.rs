//! `gantry policy images`: writes an admission policy that admits only locked images.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use policy::images::{self, ImagePolicySpec, PolicyAction, PolicyEngine};
use policy::{AdmittedVersions, AllowedImages, Namespace, NamespaceLabel, NamespaceScope};
use serde::Serialize;
use serde_json::Value;
use types::lock::Lock;
use types::receipt::Receipt;
use types::site_content::SiteContent;

use crate::commands::manifest_output::{self, ManifestOutputArgs, WrittenObject, describe_objects};
use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;

/// Write an admission policy that admits only pods whose images were locked.
///
/// The policy covers pods and everything that creates pods, with all containers, ephemeral containers
/// and image volumes. An image is admitted under its name at the site's registry with a locked tag or
/// digest, with --digests by digest only. If the policy cannot be evaluated, the object is refused.
/// What already runs is not affected, and can be updated as long as no other image is added.
///
/// Without --namespace, the policy covers all namespaces except those of Kubernetes itself and
/// gantry-system; try that with --warn first.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry policy images --site site.yaml --namespace shop | kubectl apply --server-side -f -
  gantry policy images --site site.yaml --namespace shop --digests -o policy.yaml
  gantry policy images --site site.yaml --warn                      # all namespaces, warnings only
  gantry policy images --site site.yaml --namespace-label gantry=guarded
  gantry policy images --site site.yaml --kind gatekeeper -o policy.yaml
  gantry policy images --site site.yaml --lock gantry.lock --lock old.lock   # while an update rolls out

What each kind of policy admits, its limits, and how to test it: docs/reference/policy.md")]
pub(crate) struct PolicyImagesArgs {
    /// The site file (site.yaml): its registry and naming.
    #[arg(long, value_name = "FILE")]
    pub(super) site: PathBuf,
    /// A lock file whose images are admitted; may be given several times [default: gantry.lock].
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// A receipt of gantry load, to admit the new digests of image indexes that had to be rewritten for
    /// the registry; may be given several times.
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// A namespace to cover; may be given several times.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<Namespace>,
    /// Cover the namespaces with this label. Anyone who may label namespaces can then exempt one.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "namespace")]
    namespace_label: Option<NamespaceLabel>,
    /// A namespace to exempt, beside those of Kubernetes and Gantry; may be given several times.
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["namespace", "namespace_label"])]
    except: Vec<Namespace>,
    /// The kind of policy to write.
    #[arg(long, value_name = "KIND", default_value = "vap")]
    kind: PolicyKindOption,
    /// Admit only locked digests and no tags, since a tag can be pushed again with other content.
    #[arg(long)]
    digests: bool,
    /// Refuse nothing and only warn, to see what would be refused.
    #[arg(long)]
    warn: bool,
    /// The name of the policy [default: gantry-images-NAME, with the name in the lock].
    #[arg(long, value_name = "NAME")]
    name: Option<Namespace>,
    #[command(flatten)]
    target: ManifestOutputArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum PolicyKindOption {
    /// A ValidatingAdmissionPolicy of Kubernetes itself (1.30 and newer).
    Vap,
    /// A ClusterPolicy for Kyverno (1.11 and newer).
    Kyverno,
    /// A ConstraintTemplate and a constraint for OPA Gatekeeper.
    Gatekeeper,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImagePolicySummary {
    kind: PolicyKindOption,
    name: String,
    /// The number of admitted repositories.
    #[serde(rename = "repositoryCount")]
    repositories: usize,
    /// The covered namespaces; empty if all but `left_out` are covered.
    #[serde(rename = "namespaces")]
    guarded: Vec<String>,
    #[serde(rename = "exceptNamespaces")]
    left_out: Vec<String>,
    objects: Vec<WrittenObject>,
    /// The file; absent if the manifests are printed.
    #[serde(rename = "file", skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, if they are not written to a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

pub(super) fn run(context: &CommandContext, args: &PolicyImagesArgs) -> Result<()> {
    args.target.check_path()?;
    let site = environment::read_site(&args.site)?;
    let locks = read_locks(context, args)?;
    let receipts: Vec<Receipt> =
        args.receipt.iter().map(|path| environment::read_receipt(path)).collect::<Result<_>>()?;
    let admit =
        if args.digests { AdmittedVersions::Digests } else { AdmittedVersions::TagsAndDigests };
    let allowed = AllowedImages::new(&SiteContent::new(&locks, &receipts, &site.registry)?, admit)?;
    let repositories = allowed.len();
    let first = locks.first().map(|lock| lock.name.as_str()).unwrap_or_default();
    let request = ImagePolicySpec {
        name: args
            .name
            .as_ref()
            .map_or_else(|| ImagePolicySpec::policy_name(first), Namespace::to_string),
        allowed,
        scope: choose_scope(args),
        action: if args.warn { PolicyAction::Warn } else { PolicyAction::Deny },
    };
    let kind = match args.kind {
        PolicyKindOption::Vap => PolicyEngine::Vap,
        PolicyKindOption::Kyverno => PolicyEngine::Kyverno,
        PolicyKindOption::Gatekeeper => PolicyEngine::Gatekeeper,
    };
    let manifests = images::build_manifests(kind, &request)?;

    args.target.write_manifests(context, &build_header(args), &manifests)?;
    manifest_output::warn_about_system_namespaces(context, &args.namespace);
    // A warning and no error: covering everything is the safest policy once all locks are given.
    warn_about_wide_scope(context, args, &request);
    let file = args.target.file().map(|path| path.display().to_string());
    let outcome = ImagePolicySummary {
        kind: args.kind,
        name: request.name,
        repositories,
        guarded: args.namespace.iter().map(Namespace::to_string).collect(),
        left_out: request.scope.excluded_namespaces(),
        objects: describe_objects(&manifests),
        manifests: if file.is_none() { manifests } else { vec![] },
        written: file,
    };
    match outcome.written.is_some() || context.ui.is_json() {
        true => context.ui.print_result(&outcome, format_summary),
        false => Ok(()),
    }
}

fn read_locks(context: &CommandContext, args: &PolicyImagesArgs) -> Result<Vec<Lock>> {
    match args.lock.as_slice() {
        [] => Ok(vec![environment::read_lock(context)?]),
        paths => paths.iter().map(|path| environment::read_lock_at(path)).collect(),
    }
}

fn choose_scope(args: &PolicyImagesArgs) -> NamespaceScope {
    match &args.namespace_label {
        Some(label) => NamespaceScope::Labelled(label.clone()),
        None if args.namespace.is_empty() => {
            NamespaceScope::AllBut(args.except.iter().cloned().collect())
        }
        None => NamespaceScope::Only(args.namespace.iter().cloned().collect()),
    }
}

/// The lines of the comment in front of the manifests.
fn build_header(args: &PolicyImagesArgs) -> Vec<String> {
    let mut lines = vec![
        "Written by `gantry policy images`: only locked images from the site's registry are admitted."
            .to_owned(),
    ];
    if args.kind == PolicyKindOption::Gatekeeper {
        lines.push("Gatekeeper creates the constraint's kind from the template: apply it, wait, and apply it again.".into());
        lines.push(
            "Gatekeeper admits everything while it is down, unless its webhook has failurePolicy: Fail.".into(),
        );
    }
    lines
}

fn warn_about_wide_scope(
    context: &CommandContext,
    args: &PolicyImagesArgs,
    request: &ImagePolicySpec,
) {
    if !args.warn && matches!(request.scope, NamespaceScope::AllBut(_)) {
        context.ui.print_warning(&format!(
            "the policy covers all namespaces but {}: pods whose images are in none of the given locks \
             (ingress, storage, monitoring) cannot start again; try it with --warn first, or name the \
             namespaces with --namespace",
            request.scope.excluded_namespaces().join(", ")
        ));
    }
}

fn format_summary(outcome: &ImagePolicySummary) -> String {
    let mut text = manifest_output::format_objects(&outcome.objects);
    let file = outcome.written.as_deref().unwrap_or_default();
    let _ = writeln!(
        text,
        "repositories admitted: {}; {file} written; apply it with: kubectl apply --server-side -f {file}",
        outcome.repositories
    );
    text
}
