//! `gantry policy egress`: writes the network policies that keep a namespace's pods inside.

use std::fmt::Write as _;
use std::path::PathBuf;

use chart::manifest::Manifests;
use policy::egress::{self, EgressPolicySpec};
use policy::{AllowedFlow, AllowedNamespace, Namespace};
use policy::{PolicyGap, coverage};
use serde::Serialize;
use serde_json::Value;

use crate::charts::{self, HelmRenderArgs};
use crate::commands::manifest_output::{self, ManifestOutputArgs, WrittenObject, describe_objects};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::manifests::{is_manifest_argument, read_manifest_stream};

/// How manifests come from standard input.
const EXAMPLE: &str =
    "kustomize build ./overlay | gantry policy egress - --site site.yaml --namespace shop";

/// Write network policies that block a namespace's connections to the outside.
///
/// The policies allow only DNS (kube-dns in kube-system), connections within the namespace, the site's
/// registry if it is given as an IP address, and what --allow and --allow-namespace list. A network
/// policy has addresses and not names; Gantry prints what it therefore cannot express, and which
/// option to give instead.
///
/// If a chart or manifests are given, they are examined for what the policies do not cover: pods in the
/// node's network, objects in other namespaces, policies of their own that allow more, services that
/// point outside, and pods that may need the API server.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry policy egress --site site.yaml --namespace shop | kubectl apply --server-side -f -
  gantry policy egress --site site.yaml --namespace shop ./my-chart -f values.yaml -o egress.yaml
  gantry policy egress --site site.yaml --namespace shop --allow 10.0.0.5:5000 --allow 10.0.0.7:443
  gantry policy egress --site site.yaml --namespace shop --allow 169.254.20.10:53/udp   # node-local DNS
  gantry policy egress --site site.yaml --namespace shop --allow-namespace databases:5432

What the policies cover and what they do not: docs/reference/policy.md")]
pub(crate) struct PolicyEgressArgs {
    /// A chart to examine: oci://…, a folder, a .tgz, or the URL of a repository followed by the chart's
    /// name; or plain manifests: files, folders, the folder of a kustomization, or - for standard input.
    #[arg(num_args = 0.., value_name = "CHART")]
    chart: Vec<String>,
    #[command(flatten)]
    render: HelmRenderArgs,
    /// The site file (site.yaml): its registry.
    #[arg(long, value_name = "FILE")]
    pub(super) site: PathBuf,
    /// Allow connections to this address: CIDR[:PORT][/udp]; may be given several times.
    #[arg(long, value_name = "CIDR[:PORT]")]
    allow: Vec<AllowedFlow>,
    /// Allow connections to pods of this namespace, on this port of the pods; may be given several times.
    #[arg(long, value_name = "NAMESPACE[:PORT]")]
    allow_namespace: Vec<AllowedNamespace>,
    #[command(flatten)]
    target: ManifestOutputArgs,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EgressPolicySummary {
    namespace: String,
    objects: Vec<WrittenObject>,
    /// What the policies do not cover.
    gaps: Vec<PolicyGap>,
    /// The file; absent if the manifests are printed.
    #[serde(rename = "file", skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, if they are not written to a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

pub(super) fn run(context: &CommandContext, args: &PolicyEgressArgs) -> Result<()> {
    args.target.check_path()?;
    let namespace = args.render.namespace().ok_or_else(|| {
        CommandError::usage_error("name the namespace to restrict")
            .with_hint("add --namespace NAMESPACE")
    })?;
    let site = environment::read_site(&args.site)?;
    let request = EgressPolicySpec {
        namespace: namespace.parse::<Namespace>()?,
        flows: args.allow.clone(),
        neighbours: args.allow_namespace.clone(),
    };
    let egress = egress::build_egress_policies(&request, &site)?;
    let mut gaps = egress.gaps;
    gaps.extend(find_gaps_in_objects(context, args, &request)?);

    args.target.write_manifests(context, &build_header(&request, &gaps), &egress.manifests)?;
    manifest_output::warn_about_system_namespaces(
        context,
        std::slice::from_ref(&request.namespace),
    );
    let file = args.target.file().map(|path| path.display().to_string());
    for gap in &gaps {
        context.ui.print_warning(&gap.to_string());
    }
    let outcome = EgressPolicySummary {
        namespace: request.namespace.to_string(),
        objects: describe_objects(&egress.manifests),
        gaps,
        manifests: if file.is_none() { egress.manifests } else { vec![] },
        written: file,
    };
    match outcome.written.is_some() || context.ui.is_json() {
        true => context.ui.print_result(&outcome, format_summary),
        false => Ok(()),
    }
}

fn find_gaps_in_objects(
    context: &CommandContext,
    args: &PolicyEgressArgs,
    request: &EgressPolicySpec,
) -> Result<Vec<PolicyGap>> {
    let (name, stream) = match args.chart.as_slice() {
        [] => return Ok(vec![]),
        all if all.iter().all(|one| is_manifest_argument(one)) => {
            (all.join(", "), read_manifest_stream(all, EXAMPLE)?)
        }
        all => render_chart(context, args, all)?,
    };
    let manifests = Manifests::read(&stream);
    // What cannot be read cannot be searched for gaps, and no gap would look like full coverage.
    if let Some(unread) = manifests.unread.first() {
        return Err(CommandError::usage_error(format!(
            "{}: the document at line {} is not valid YAML: {}",
            name, unread.line, unread.reason
        )));
    }
    Ok(coverage::find_gaps(request, manifests.documents.iter().map(|document| &document.value)))
}

/// The lines of the comment in front of the manifests.
/// Renders the chart of the arguments; its name, and the stream.
fn render_chart(
    context: &CommandContext,
    args: &PolicyEgressArgs,
    chart: &[String],
) -> Result<(String, String)> {
    let source = match charts::parse_chart_sources(chart)?.as_slice() {
        [source] => source.clone(),
        _ => return Err(CommandError::usage_error("give one chart, or plain manifests alone")),
    };
    let values = args.render.values.read_values()?;
    let chart = args.render.to_input_chart(source, &values, &[])?;
    let release = charts::open_chart(context, &chart, &[])?;
    let stream =
        release.render(None).map_err(|cause| CommandError::usage_error(cause.to_string()))?;
    Ok((release.chart().name().to_owned(), stream))
}

fn build_header(request: &EgressPolicySpec, gaps: &[PolicyGap]) -> Vec<String> {
    let mut lines = vec![
        format!("Written by `gantry policy egress`: nothing in {} can connect to the outside.", request.namespace),
        "They need a network plugin that enforces network policies (Calico, Cilium; flannel alone does not).".to_owned(),
    ];
    lines.extend(gaps.iter().map(|gap| format!("not covered: {gap}")));
    lines
}

fn format_summary(outcome: &EgressPolicySummary) -> String {
    let mut text = String::new();
    for object in &outcome.objects {
        let _ = writeln!(text, "{} {}/{}", object.kind, outcome.namespace, object.name);
    }
    let file = outcome.written.as_deref().unwrap_or_default();
    let _ = writeln!(text, "{file} written; apply it with: kubectl apply --server-side -f {file}");
    text
}
