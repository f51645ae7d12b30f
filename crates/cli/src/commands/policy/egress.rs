//! `gantry policy egress`.

use std::fmt::Write as _;
use std::path::PathBuf;

use chart::manifest::Manifests;
use policy::coverage::{self, Gap};
use policy::egress::{self, Request};
use policy::{Flow, Namespace, Neighbour};
use serde::Serialize;
use serde_json::Value;

use super::{Target, Written, written};
use crate::charts::{self, RenderArgs};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// Close a namespace to the outside: network policies with just the flows that are needed.
///
/// Everything that goes out is refused but name service (kube-dns in kube-system), the namespace
/// itself, the site's registry where it is an address, and what is declared. A network policy knows
/// addresses, not names: what it cannot say is told, with what to give.
///
/// With a chart, it is rendered and looked through: pods in the node's own network, objects in other
/// namespaces, the chart's own policies that let out more, services that lead outside, and what may
/// need the API server.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry policy egress --site site.yaml --namespace shop | kubectl apply --server-side -f -
  gantry policy egress --site site.yaml --namespace shop ./my-chart -f values.yaml -o egress.yaml
  gantry policy egress --site site.yaml --namespace shop --allow 10.0.0.5:5000 --allow 10.0.0.7:443
  gantry policy egress --site site.yaml --namespace shop --allow 169.254.20.10:53/udp   # node-local DNS
  gantry policy egress --site site.yaml --namespace shop --allow-namespace databases:5432

What it holds and what it does not: docs/policy.md")]
pub(crate) struct Args {
    /// A chart to look through: oci://…, a folder, a .tgz, or an https repository followed by the
    /// chart's name.
    #[arg(num_args = 0..=2, value_name = "CHART")]
    chart: Vec<String>,
    #[command(flatten)]
    render: RenderArgs,
    /// The site's description.
    #[arg(long, value_name = "FILE")]
    site: PathBuf,
    /// An address that may be reached: CIDR[:PORT][/udp]; may be given several times.
    #[arg(long, value_name = "CIDR[:PORT]")]
    allow: Vec<Flow>,
    /// Another namespace whose pods may be reached, with their own port; may be given several times.
    #[arg(long, value_name = "NAMESPACE[:PORT]")]
    allow_namespace: Vec<Neighbour>,
    #[command(flatten)]
    target: Target,
}

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    namespace: String,
    objects: Vec<Written>,
    /// What the policies do not hold.
    gaps: Vec<Gap>,
    /// The file; absent when the manifests are printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, when they are in no file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<()> {
    args.target.check()?;
    let namespace = args.render.namespace().ok_or_else(|| {
        CommandError::usage("which namespace is closed?").hint("name it: --namespace NAMESPACE")
    })?;
    let site = world::site(&args.site)?;
    let request = Request {
        namespace: namespace.parse::<Namespace>()?,
        flows: args.allow.clone(),
        neighbours: args.allow_namespace.clone(),
    };
    let egress = egress::policies(&request, &site)?;
    let mut gaps = egress.gaps;
    gaps.extend(in_chart(context, args, &request)?);

    args.target.write(context, &about(&request, &gaps), &egress.manifests)?;
    let file = args.target.file().map(|path| path.display().to_string());
    for gap in &gaps {
        context.ui.warn(&gap.to_string());
    }
    let outcome = Outcome {
        namespace: request.namespace.to_string(),
        objects: written(&egress.manifests),
        gaps,
        manifests: if file.is_none() { egress.manifests } else { vec![] },
        written: file,
    };
    match outcome.written.is_some() || context.ui.is_json() {
        true => context.ui.result(&outcome, summary),
        false => Ok(()),
    }
}

fn in_chart(context: &Context, args: &Args, request: &Request) -> Result<Vec<Gap>> {
    let source = match charts::sources(&args.chart)?.as_slice() {
        [] => return Ok(vec![]),
        [source] => source.clone(),
        _ => return Err(CommandError::usage("one chart at a time: give one CHART")),
    };
    let chart = args.render.chart(source, &[])?;
    let release = charts::open(context, &chart, &[])?;
    let stream = release.render(None).map_err(|cause| CommandError::usage(cause.to_string()))?;
    let manifests = Manifests::read(&stream);
    if let Some(unread) = manifests.unread.first() {
        return Err(CommandError::usage(format!(
            "{}: the document at line {} is no YAML: {}",
            release.chart().name(),
            unread.line,
            unread.reason
        )));
    }
    Ok(coverage::gaps(request, manifests.documents.iter().map(|document| &document.value)))
}

/// The comment at the head of the manifests.
fn about(request: &Request, gaps: &[Gap]) -> Vec<String> {
    let mut lines = vec![
        format!("Written by `gantry policy egress`: nothing in {} talks to the outside.", request.namespace),
        "The cluster's network plugin has to enforce network policies (Calico, Cilium; flannel alone does not).".to_owned(),
    ];
    lines.extend(gaps.iter().map(|gap| format!("not held: {gap}")));
    lines
}

fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for object in &outcome.objects {
        let _ = writeln!(text, "{} {}/{}", object.kind, outcome.namespace, object.name);
    }
    let file = outcome.written.as_deref().unwrap_or_default();
    let _ = writeln!(text, "{file} written, apply it with: kubectl apply --server-side -f {file}");
    text
}
