//! `gantry audit`: finds what in a cluster would connect to the outside, and with `--soak` records what
//! tries to. The work is done by the crate `egress`.

mod helpers;
mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chart::phone_home::PhoneHomeRules;
use cluster::Cluster;
use egress::coverage::{self, DeclaredFlows};
use egress::findings::{self, FindingOrigin};
use egress::report::{AuditCase, build_report};
use egress::soak::{self, ConnectionObservation, NameObservation, SoakOptions};
use egress::{AuditEvidence, AuditExercise, ClusterNetwork, InsideDeclaration, Perimeter};
use policy::{AllowedFlow, AllowedNamespace, Namespace};
use serde_json::Value;
use types::site::Site;

#[cfg(test)]
pub(super) use self::report::format_report;
use crate::chart_values::ValuesArgs;
use crate::charts;
use crate::clusters::{self, ClusterArgs};
use crate::commands::manifest_output;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::manifests::read_manifest_texts;
use crate::output_files::{OutputKind, OverwriteArgs};
use crate::value_parsers::{SECOND, WEEK, duration_within};

/// Find out what in the cluster would connect to the outside, and record what tries to.
///
/// Gantry examines manifests and the objects in the namespaces for outside addresses, settings that
/// enable telemetry or updates, webhooks, and services that point outside. It lists workloads that no
/// network policy restricts, and can write policies that do.
///
/// With --soak it also listens for a while: DNS queries for names outside the cluster go to a DNS
/// server of Gantry's own, which records the pod that asked, and a watcher on every node records each
/// attempted connection, even if a network policy drops it. All changes to the cluster are undone at
/// the end, also after Ctrl-C; after a crash, `gantry audit restore` undoes them.
///
/// Exit code 3 if something tried to connect to the outside, 4 if nothing was seen but not everything
/// could be observed.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = "\
Examples:
  gantry audit --site site.yaml --namespace shop
  gantry audit --site site.yaml --namespace shop --soak 1h --report ./audit --context site
  gantry audit --site site.yaml --namespace shop --soak 10m --run 'curl -sf http://shop.shop/healthz'
  gantry audit --site site.yaml --namespace shop --inside git.site.net --inside 10.1.0.0/16 --soak 10m
  gantry audit --site site.yaml --namespace shop --policies ./policies
  helm template ./my-chart | gantry audit --manifests - --no-live
  gantry audit restore

What an audit can and cannot see, and what it changes: docs/explanation/audit.md")]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    part: Option<AuditCommand>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The site file (site.yaml): its registry counts as inside, and its context names the cluster.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// A namespace to audit; may be given several times [default: all].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<Namespace>,
    /// Render this chart and examine it as well: oci://…, a folder or a .tgz.
    #[arg(long, value_name = "CHART")]
    chart: Option<String>,
    #[command(flatten)]
    values: ValuesArgs,
    /// Examine these manifests as well: a file, a folder, the folder of a kustomization, or - for standard
    /// input; may be given several times.
    #[arg(long, value_name = "FILE", conflicts_with = "chart")]
    manifests: Vec<String>,
    /// Examine only the chart or the manifests, without connecting to a cluster.
    #[arg(long, conflicts_with_all = ["soak", "apply_policies"])]
    no_live: bool,
    /// Count this as inside too: a network, an address, or a domain with its subdomains; may be given
    /// several times.
    #[arg(long, value_name = "CIDR|NAME")]
    inside: Vec<InsideDeclaration>,
    /// Allow connections to this address, in the audit and in the policies: CIDR[:PORT][/udp]; may be
    /// given several times.
    #[arg(long, value_name = "CIDR[:PORT]")]
    allow: Vec<AllowedFlow>,
    /// Allow connections to pods of this namespace in the policies: NAMESPACE[:PORT]; may be given
    /// several times.
    #[arg(long, value_name = "NAMESPACE[:PORT]")]
    allow_namespace: Vec<AllowedNamespace>,
    /// Write network policies into this folder, one file per namespace.
    #[arg(long, value_name = "DIR", requires = "site", requires = "namespace")]
    policies: Option<PathBuf>,
    /// Apply the network policies to the cluster. They are not removed at the end.
    #[arg(long, requires = "site", requires = "namespace")]
    apply_policies: bool,
    /// Listen for this long (10s, 30m, 1h30m).
    #[arg(long, value_name = "TIME", value_parser = duration_within(SECOND..=WEEK))]
    soak: Option<Duration>,
    /// Run this shell command while listening; may be given several times.
    #[arg(long, value_name = "COMMAND", requires = "soak")]
    run: Vec<String>,
    /// Do not record DNS queries: the configuration of CoreDNS stays as it is.
    #[arg(long, requires = "soak")]
    no_dns: bool,
    /// Do not record connections.
    #[arg(long, requires = "soak")]
    no_connections: bool,
    /// Run the DNS server for the queries in this process instead of in a pod, at this address, which
    /// CoreDNS must be able to reach.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "soak")]
    sink_address: Option<SocketAddr>,
    /// Gantry's own image as nodes pull it [default: the one in the site's registry].
    #[arg(long, value_name = "IMAGE", requires = "soak")]
    image: Option<types::Reference>,
    /// Write the report into this folder as audit.md, audit.json and audit.html.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(flatten)]
    overwrite: OverwriteArgs,
}

impl AuditArgs {
    /// The path of `--site`, of an audit or of its restoration.
    pub(super) fn site_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.part {
            Some(AuditCommand::Restore(args)) => args.site.as_mut(),
            _ => self.site.as_mut(),
        }
    }
}

#[derive(clap::Subcommand)]
enum AuditCommand {
    /// Undo what an interrupted audit changed in the cluster.
    Restore(AuditRestoreArgs),
    #[command(hide = true)]
    Sink(helpers::AuditSinkArgs),
    #[command(hide = true)]
    WatchNode(helpers::AuditWatchNodeArgs),
}

/// The result of `audit restore`.
#[derive(serde::Serialize, schemars::JsonSchema)]
pub(crate) struct AuditRestoration {
    /// What was undone.
    pub(super) restored: Vec<String>,
}

#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry audit restore
  gantry audit restore --context site")]
struct AuditRestoreArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The site file (site.yaml), for the context of its cluster.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
}

pub(crate) fn run_audit_command(context: &CommandContext, args: &AuditArgs) -> Result<()> {
    match &args.part {
        Some(AuditCommand::Sink(args)) => helpers::run_dns_sink(context, args),
        Some(AuditCommand::WatchNode(args)) => helpers::watch_node(context, args),
        Some(AuditCommand::Restore(args)) => restore_cluster(context, args),
        None => run_audit(context, args),
    }
}

fn restore_cluster(context: &CommandContext, args: &AuditRestoreArgs) -> Result<()> {
    let site = args.site.as_deref().map(environment::read_site).transpose()?;
    let done = environment::build_runtime()?.block_on(async {
        let doing = "undo what an audit changed";
        let cluster =
            clusters::open_cluster_to_write(context, &args.cluster, site.as_ref(), doing).await?;
        Ok::<_, CommandError>(soak::restore_cluster(&cluster).await?)
    })?;
    context.ui.print_result(&AuditRestoration { restored: done }, format_restoration)
}

pub(super) fn format_restoration(done: &AuditRestoration) -> String {
    match done.restored.as_slice() {
        [] => "nothing to undo: no audit has left changes in the cluster\n".to_owned(),
        done => done.join("\n") + "\n",
    }
}

/// The arguments and files, read and validated. Nothing was changed yet.
struct AuditInput {
    site: Option<Site>,
    namespaces: Vec<String>,
    switches: PhoneHomeRules,
    rendered: Option<Vec<Value>>,
    plan: Option<SoakOptions>,
    input: Option<types::input::Input>,
}

fn run_audit(context: &CommandContext, args: &AuditArgs) -> Result<()> {
    let asked = read_input(context, args)?;
    let report = environment::build_runtime()?.block_on(async {
        let cluster = match (args.no_live, args.soak.is_some() || args.apply_policies) {
            (true, _) => None,
            (_, false) => Some(clusters::open_cluster(&args.cluster, asked.site.as_ref()).await?),
            (_, true) => {
                let site = asked.site.as_ref();
                Some(clusters::open_cluster_to_write(context, &args.cluster, site, "audit").await?)
            }
        };
        collect_report(context, args, asked, cluster.as_ref()).await
    })?;
    report::show_report(context, &report, args.report.as_deref())
}

fn read_input(context: &CommandContext, args: &AuditArgs) -> Result<AuditInput> {
    let site = args.site.as_deref().map(environment::read_site).transpose()?;
    let input = environment::read_optional_input(context)?;
    if args.chart.is_none() && !args.values.is_empty() {
        return Err(CommandError::usage_error(
            "values (-f, --set and its siblings) are for a chart",
        )
        .with_hint("name it: --chart CHART"));
    }
    let rendered = read_rendered_objects(context, args)?;
    if args.no_live && rendered.is_none() {
        return Err(CommandError::usage_error("--no-live leaves nothing to examine")
            .with_hint("add --chart CHART or --manifests FILE"));
    }
    for folder in [&args.report, &args.policies].into_iter().flatten() {
        if folder.exists() && !folder.is_dir() {
            let shown = folder.display();
            return Err(CommandError::usage_error(format!("{shown} is not a folder"))
                .with_hint("give a folder"));
        }
    }
    for path in args.report.iter().flat_map(|folder| report::list_files(folder)) {
        args.overwrite.check_file_in_new_folder(&path, OutputKind::AuditReport)?;
    }
    if let Some(folder) = &args.policies {
        for namespace in &args.namespace {
            let path = build_policy_path(folder, namespace);
            args.overwrite.check_file_in_new_folder(&path, OutputKind::Manifests)?;
        }
    }
    if args.policies.is_some() || args.apply_policies {
        manifest_output::warn_about_system_namespaces(context, &args.namespace);
    }
    // Sorted and without duplicates, for a stable report.
    let namespaces: BTreeSet<String> = args.namespace.iter().map(Namespace::to_string).collect();
    let namespaces: Vec<String> = namespaces.into_iter().collect();
    let plan = args
        .soak
        .map(|length| build_soak_settings(args, site.as_ref(), &namespaces, length))
        .transpose()?;
    let switches = input
        .as_ref()
        .map_or_else(|| PhoneHomeRules::builtin().clone(), PhoneHomeRules::from_input);
    Ok(AuditInput { site, namespaces, switches, rendered, plan, input })
}

fn read_rendered_objects(context: &CommandContext, args: &AuditArgs) -> Result<Option<Vec<Value>>> {
    let namespace = args.namespace.first().map(Namespace::as_str);
    if let Some(source) = &args.chart {
        let sources = charts::parse_chart_sources(std::slice::from_ref(source))?;
        let Some(source) = sources.into_iter().next() else { return Ok(None) };
        let stream = charts::render_chart(context, source, &args.values, namespace)?;
        return Ok(Some(findings::read_rendered_objects("the chart", &stream)?));
    }
    if args.manifests.is_empty() {
        return Ok(None);
    }
    let mut objects = Vec::new();
    for argument in &args.manifests {
        let example = "helm template ./my-chart | gantry audit --manifests -";
        for text in read_manifest_texts(argument, example)? {
            objects.extend(findings::read_rendered_objects(&text.name, &text.text)?);
        }
    }
    Ok(Some(objects))
}

fn build_soak_settings(
    args: &AuditArgs,
    site: Option<&Site>,
    namespaces: &[String],
    length: Duration,
) -> Result<SoakOptions> {
    let names = match (args.no_dns, args.sink_address) {
        (true, _) => NameObservation::NotSeen,
        (false, Some(address)) => NameObservation::Local(address),
        (false, None) => NameObservation::Pod,
    };
    let connections = if args.no_connections {
        ConnectionObservation::NotSeen
    } else {
        ConnectionObservation::Seen
    };
    if names == NameObservation::NotSeen && connections == ConnectionObservation::NotSeen {
        return Err(CommandError::usage_error(
            "--no-dns and --no-connections leave nothing to record",
        )
        .with_hint("remove one of the two options"));
    }
    let needs_image = names == NameObservation::Pod || connections == ConnectionObservation::Seen;
    let image = match (&args.image, site) {
        (Some(image), _) => image.to_string(),
        (None, Some(site)) => site.registry.own_image()?.to_string(),
        (None, None) if needs_image => {
            return Err(CommandError::usage_error("the audit runs Gantry's own image in the cluster, and it is not known where nodes can pull it")
                .with_hint("give --site site.yaml, or --image REGISTRY/gantry:VERSION"));
        }
        (None, None) => String::new(),
    };
    let secret = site.and_then(|site| site.registry.pull_secret.clone());
    let pull_secret = namespaces.first().cloned().zip(secret);
    Ok(SoakOptions { names, connections, image, pull_secret, length })
}

async fn collect_report(
    context: &CommandContext,
    args: &AuditArgs,
    asked: AuditInput,
    cluster: Option<&Cluster>,
) -> Result<egress::report::AuditReport> {
    let AuditInput { site, namespaces, switches, rendered, plan, input } = asked;
    let mut around = ClusterNetwork::default();
    let mut live = Vec::new();
    if let Some(cluster) = cluster {
        require_rights(cluster, args, &namespaces, plan.as_ref()).await?;
        around = egress::read_cluster_network(cluster, site.as_ref(), &args.inside).await?;
        live = findings::read_live_objects(cluster, &namespaces).await?;
    } else {
        args.inside.iter().for_each(|declared| around.perimeter.add_declaration(declared));
    }
    // Everything that counts as inside has to be known before the search for what points outside.
    add_allowed_networks(args, &mut around.perimeter);
    switches.inside_domains().iter().for_each(|name| around.perimeter.add_name(name));
    // Rendered objects without a namespace would be installed into the first one.
    let first = namespaces.first().map_or("default", String::as_str);
    let find = |objects: &[Value], seen| {
        findings::find_outside_references(objects, first, &switches, &around.perimeter, seen)
    };
    let rendered = rendered.unwrap_or_default();
    let found = findings::merge_findings(
        find(&rendered, FindingOrigin::Rendered),
        find(&live, FindingOrigin::Live),
    );
    let policies = write_network_policies(context, args, site.as_ref(), &rendered, &live)?;
    if let Some(cluster) = cluster.filter(|_| args.apply_policies) {
        for closed in &policies {
            for manifest in &closed.manifests {
                let mode = cluster::ApplyMode::Apply;
                cluster.apply_manifest(manifest, &closed.namespace, mode).await?;
            }
            context.ui.print_status(&format!("network policies applied in {}", closed.namespace));
        }
    }
    let evidence = match (&plan, cluster) {
        (Some(plan), Some(cluster)) => {
            let load = AuditExercise {
                commands: &args.run,
                input,
                lock: environment::read_optional_lock(context)?,
                releases: egress::find_releases(&live),
                time_limit: plan.length,
            };
            Some(run_soak(context, cluster, plan, &around, load).await?)
        }
        _ => None,
    };
    Ok(build_report(AuditCase {
        cluster,
        namespaces: &namespaces,
        network: &around,
        switches: &switches,
        findings: found,
        policies,
        evidence,
    }))
}

async fn require_rights(
    cluster: &Cluster,
    args: &AuditArgs,
    namespaces: &[String],
    plan: Option<&SoakOptions>,
) -> Result<()> {
    let mut rights = findings::required_rights(namespaces);
    rights.extend(plan.map(soak::required_rights).unwrap_or_default());
    if args.apply_policies {
        let right = cluster::Permission::new("patch", "networking.k8s.io", "networkpolicies");
        rights.extend(namespaces.iter().map(|name| right.clone().in_namespace(name)));
    }
    rights.sort();
    rights.dedup();
    Ok(cluster.require_permissions("the audit", &rights).await?)
}

/// Counts the addresses of `--allow` as inside, since the policies allow them.
fn add_allowed_networks(args: &AuditArgs, inside: &mut Perimeter) {
    for flow in &args.allow {
        if let Ok(network) = flow.cidr().parse() {
            inside.add_network(network);
        }
    }
}

/// The file with the network policies of a namespace.
fn build_policy_path(folder: &Path, namespace: &Namespace) -> PathBuf {
    folder.join(format!("{namespace}.yaml"))
}

fn write_network_policies(
    context: &CommandContext,
    args: &AuditArgs,
    site: Option<&Site>,
    rendered: &[Value],
    live: &[Value],
) -> Result<Vec<coverage::NamespaceCoverage>> {
    let Some(site) = site else { return Ok(vec![]) };
    let flows =
        DeclaredFlows { addresses: args.allow.clone(), neighbours: args.allow_namespace.clone() };
    let objects: Vec<Value> = rendered.iter().chain(live).cloned().collect();
    let mut all = Vec::new();
    for namespace in &args.namespace {
        let closed = coverage::cover_namespace(namespace, site, &flows, &objects, live)?;
        if let Some(folder) = &args.policies {
            let mut about = vec![format!(
                "Written by `gantry audit`: nothing in {namespace} can connect to the outside."
            )];
            about.extend(closed.gaps.iter().map(|gap| format!("not covered: {gap}")));
            let path = build_policy_path(folder, namespace);
            environment::write_file_with_folders(
                &path,
                &policy::format_manifests(&about, &closed.manifests)?,
            )?;
            context.ui.print_status(&format!("{} written", path.display()));
        }
        all.push(closed);
    }
    Ok(all)
}

async fn run_soak(
    context: &CommandContext,
    cluster: &Cluster,
    plan: &SoakOptions,
    around: &ClusterNetwork,
    load: AuditExercise<'_>,
) -> Result<AuditEvidence> {
    let ui = context.ui.clone();
    let say = move |text: &str| ui.print_status(&format!("{:>9} {text}", "audit"));
    let load = load.run(cluster);
    Ok(Box::pin(soak::run_soak(cluster, plan, around, load, environment::wait_for_stop(), &say))
        .await?)
}
