//! `gantry undeploy`: removes what `gantry deploy` installed, and nothing else.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cluster::Cluster;
use deploy::prepare;
use deploy::release::{
    self, ClaimRetention, InstalledRelease, LocatedReleases, NamespaceRetention, ReleaseKind,
    ReleaseToRemove, RemovalReport, SiteNamespaceObjects, SiteObjects,
};
use remote::helm::HookPolicy;
use serde::Serialize;
use types::site::Site;

use crate::clusters::{self, ClusterArgs};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::value_parsers::{SECOND, WEEK, duration_within};

/// Remove releases that `gantry deploy` installed.
///
/// Helm uninstalls them. With the last release of a namespace, Gantry also removes the pull secret, the
/// CA and what it added to service accounts. Persistent volume claims are kept, with the data and
/// models in them, unless --delete-claims is given. The namespace is kept, unless --delete-namespace is
/// given and nothing else is in it. Gantry never deletes what it did not create.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry undeploy --site site.yaml                     # all releases of gantry.yaml
  gantry undeploy --site site.yaml web --dry-run
  gantry undeploy --namespace shop web                 # without gantry.yaml
  gantry undeploy --site site.yaml --delete-claims --delete-namespace")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct UndeployArgs {
    /// The releases to remove [default: all of gantry.yaml].
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site file (site.yaml), for the context of its cluster.
    #[arg(long, value_name = "FILE")]
    pub(super) site: Option<PathBuf>,
    /// The namespace of the releases [default: as in gantry.yaml, else where the release is found].
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Delete persistent volume claims too, with the data in them.
    #[arg(long)]
    delete_claims: bool,
    /// Delete the namespace too, if Gantry created it and nothing else is in it.
    #[arg(long)]
    delete_namespace: bool,
    /// Remove the pull secret, the CA and the policies from the namespaces of site.yaml (`namespaces:`) too.
    #[arg(long, requires = "site")]
    clean_namespaces: bool,
    /// How long the hooks of each release may take (90s, 5m, 1h).
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_within(SECOND..=WEEK))]
    timeout: Duration,
    /// Print what would be removed, without removing it.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UndeploySummary {
    pub(super) context: String,
    #[serde(rename = "dryRun")]
    pub(super) is_dry_run: bool,
    #[serde(rename = "removals")]
    pub(super) namespaces: Vec<RemovalReport>,
    /// Releases that are not installed.
    #[serde(rename = "notInstalled")]
    pub(super) missing: Vec<String>,
    /// What was removed from the namespaces of site.yaml (`namespaces:`).
    #[serde(rename = "removedNamespaceObjects", skip_serializing_if = "Vec::is_empty")]
    pub(super) namespace_objects: Vec<String>,
}

pub(crate) fn run(context: &CommandContext, args: &UndeployArgs) -> Result<()> {
    let wanted = select_releases(context, args)?;
    let site = args.site.as_deref().map(environment::read_site).transpose()?;
    environment::block_on(async {
        let names: Vec<&str> = wanted.iter().map(|one| one.release.as_str()).collect();
        let doing = format!("remove {}", names.join(", "));
        let cluster = match args.dry_run {
            true => clusters::open_cluster(&args.cluster, site.as_ref()).await?,
            false => {
                clusters::open_cluster_to_write(context, &args.cluster, site.as_ref(), &doing)
                    .await?
            }
        };
        let LocatedReleases { by_namespace, missing } =
            release::locate_releases(&cluster, &wanted).await?;
        let mut namespaces = Vec::new();
        for (namespace, names) in by_namespace {
            namespaces.push(match args.dry_run {
                true => preview_removal(namespace, names),
                false => remove_releases(context, args, &cluster, &namespace, &names).await?,
            });
        }
        let namespace_objects = remove_from_namespaces(args, site.as_ref(), &cluster).await?;
        let summary = UndeploySummary {
            namespace_objects,
            context: cluster.context().to_owned(),
            is_dry_run: args.dry_run,
            namespaces,
            missing,
        };
        context.ui.print_result(&summary, format_summary)
    })
}

fn select_releases(context: &CommandContext, args: &UndeployArgs) -> Result<Vec<ReleaseToRemove>> {
    let place = |namespace: Option<String>| args.namespace.clone().or(namespace);
    let known = match (
        environment::read_optional_input(context)?,
        environment::read_optional_lock(context)?,
    ) {
        (Some(input), Some(lock)) => prepare::list_release_namespaces(&input, &lock),
        _ => vec![],
    };
    if args.releases.is_empty() {
        if known.is_empty() {
            return Err(CommandError::usage_error(
                "no release is named, and there is no gantry.yaml with releases",
            )
            .with_hint("name them: gantry undeploy RELEASE… --namespace NAMESPACE"));
        }
        // In the reverse order of installation, so that a release goes before those it needs.
        let all = known.into_iter().rev();
        return Ok(all
            .map(|(release, namespace)| ReleaseToRemove { release, namespace: place(namespace) })
            .collect());
    }
    Ok(args
        .releases
        .iter()
        .map(|name| {
            let namespace = known.iter().find(|(release, _)| release == name);
            let namespace = place(namespace.and_then(|(_, namespace)| namespace.clone()));
            ReleaseToRemove { release: name.clone(), namespace }
        })
        .collect())
}

async fn remove_releases(
    context: &CommandContext,
    args: &UndeployArgs,
    cluster: &Cluster,
    namespace: &str,
    releases: &[InstalledRelease],
) -> Result<RemovalReport> {
    let helm = match releases.iter().any(|one| one.kind == ReleaseKind::Chart) {
        true => {
            let open = || clusters::open_helm(cluster, &args.cluster);
            Some(tokio::task::block_in_place(open)?)
        }
        false => None,
    };
    let names: Vec<&str> = releases.iter().map(|one| one.release.as_str()).collect();
    context.ui.print_status(&format!("removing {} from {namespace}", names.join(", ")));
    let claims = if args.delete_claims { ClaimRetention::Deleted } else { ClaimRetention::Kept };
    let whole =
        if args.delete_namespace { NamespaceRetention::Deleted } else { NamespaceRetention::Kept };
    // Hooks of a chart may delete what helm does not know of, so they run as in `helm uninstall`.
    let hooks = HookPolicy::Run(args.timeout);
    let helm = helm.as_ref();
    Ok(release::undeploy_releases(cluster, helm, namespace, releases, claims, whole, hooks).await?)
}

/// Removes what the namespaces of site.yaml got.
async fn remove_from_namespaces(
    args: &UndeployArgs,
    site: Option<&Site>,
    cluster: &Cluster,
) -> Result<Vec<String>> {
    let Some(site) = site.filter(|_| args.clean_namespaces) else { return Ok(vec![]) };
    let namespaces = SiteNamespaceObjects::of_site(site, SiteObjects::default())?;
    if args.dry_run {
        let names = namespaces.select_namespaces(cluster).await?;
        let line = |name| format!("pull secret, CA and policies of Gantry in {name}");
        return Ok(names.into_iter().map(line).collect());
    }
    Ok(namespaces.remove(cluster).await?)
}

fn preview_removal(namespace: String, releases: Vec<InstalledRelease>) -> RemovalReport {
    let releases = releases.into_iter().map(|one| one.release).collect();
    RemovalReport { namespace, releases, objects: vec![], kept: vec![] }
}

pub(super) fn format_summary(summary: &UndeploySummary) -> String {
    let would = if summary.is_dry_run { "would be removed" } else { "removed" };
    let mut text = String::new();
    for removed in &summary.namespaces {
        for name in &removed.releases {
            let _ = writeln!(text, "{would}: release {name} in {}", removed.namespace);
        }
        for object in &removed.objects {
            let _ = writeln!(text, "{would}: {object}");
        }
        for kept in &removed.kept {
            let _ = writeln!(text, "kept: {kept}");
        }
    }
    for object in &summary.namespace_objects {
        let _ = writeln!(text, "{would}: {object}");
    }
    for name in &summary.missing {
        let _ = writeln!(text, "not installed by Gantry: release {name}");
    }
    text
}
