//! What the subcommands on releases share: selecting charts of gantry.yaml, finding their archives
//! inside the air gap, and preparing each for helm with its images moved to the site and proven.

mod archives;
mod relocation;

use std::path::Path;

use cluster::Cluster;
use deploy::release::PullSecret;
use net::Credentials;
use remote::helm::{self, HelmClient};
use types::input::{ChartSource, Input, InputChart};
use types::lock::{self, Lock};
use types::site::Site;

pub(crate) use archives::ChartArchives;
pub(crate) use relocation::{LeftoverWorkaround, ReleaseRelocator, RelocatedRelease};

use crate::clusters::ClusterArgs;
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// The namespace of a chart without one, the same as helm's.
const DEFAULT: &str = "default";

/// A chart of gantry.yaml that was selected to be deployed.
#[derive(Debug, Clone)]
pub(crate) struct SelectedRelease {
    /// Its index in gantry.yaml, from 0.
    pub(crate) number: usize,
    /// Its entry in gantry.yaml, with the release's name and namespace filled in.
    pub(crate) chart: InputChart,
    /// Its entry in the lock.
    pub(crate) locked: lock::LockedChart,
}

impl SelectedRelease {
    /// The name of the helm release.
    pub(crate) fn release(&self) -> &str {
        &self.locked.release
    }
}

/// The site's pull secret with the credential for its registry, if site.yaml names one.
pub(crate) fn find_pull_secret(
    site: &Site,
    credentials: &Credentials,
) -> Result<Option<PullSecret>> {
    let Some(name) = site.registry.pull_secret.clone() else { return Ok(None) };
    let host = site.registry.parse_prefix()?.registry().to_owned();
    let credential = credentials.find_credential(&host)?;
    Ok(Some(PullSecret { name, host, credential }))
}

/// Selects the charts of gantry.yaml by release name, all of them if no name is given. Checks that each
/// is locked and that its values files exist.
pub(crate) fn select_releases(
    context: &CommandContext,
    input: &Input,
    lock: &Lock,
    names: &[String],
) -> Result<Vec<SelectedRelease>> {
    let mut all = Vec::new();
    for (number, chart) in input.charts.iter().enumerate() {
        let locked = find_locked_chart(chart, lock).ok_or_else(|| {
            let (text, _) = describe_chart_source(&chart.source);
            CommandError::usage_error(format!(
                "gantry.lock does not match gantry.yaml: chart {text} is not locked as written there"
            ))
            .with_hint("where there is internet access, run gantry lock, then fetch and pack, and load the new bundle")
        })?;
        let namespace = chart.namespace.clone().unwrap_or_else(|| DEFAULT.to_owned());
        let chart = InputChart {
            release: Some(locked.release.clone()),
            namespace: Some(namespace),
            ..chart.clone()
        };
        all.push(SelectedRelease { number, chart, locked: locked.clone() });
    }
    // All charts are matched with the lock first, the selected ones afterwards: a stale lock must not pass
    // just because the changed chart was not named.
    let known: Vec<&str> = all.iter().map(SelectedRelease::release).collect();
    if known.is_empty() {
        return Err(CommandError::usage_error("gantry.yaml has no charts"));
    }
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(CommandError::usage_error(format!(
            "gantry.yaml has no release {unknown:?}; its releases are: {}",
            known.join(", ")
        )));
    }
    all.retain(|one| names.is_empty() || names.iter().any(|name| name == one.release()));
    for one in &all {
        check_values_files(context, one)?;
    }
    Ok(all)
}

/// The releases of an input as pairs of name and namespace, in the order of installation.
pub(crate) fn list_release_namespaces(input: &Input, lock: &Lock) -> Vec<(String, String)> {
    let order = input.install_order(&|_| false);
    order.iter().filter_map(|number| find_release_namespace(&input.charts[*number], lock)).collect()
}

fn find_release_namespace(chart: &InputChart, lock: &Lock) -> Option<(String, String)> {
    let locked = find_locked_chart(chart, lock)?;
    let namespace = chart.namespace.clone().unwrap_or_else(|| DEFAULT.to_owned());
    Some((locked.release.clone(), namespace))
}

/// The lock's entry of a chart, if it was locked with the same source and version.
fn find_locked_chart<'a>(chart: &InputChart, lock: &'a Lock) -> Option<&'a lock::LockedChart> {
    let (text, name) = describe_chart_source(&chart.source);
    lock.charts.iter().find(|locked| {
        locked.chart == text
            && locked.name == name
            && locked.requested == chart.version
            && chart.release.as_ref().is_none_or(|release| *release == locked.release)
    })
}

/// Checks that a release's values files exist, before anything is changed: they are not part of the
/// chart and have to be carried across separately.
fn check_values_files(context: &CommandContext, asked: &SelectedRelease) -> Result<()> {
    for file in &asked.chart.values {
        let path = context.directory.join(file);
        // `~` is replaced by the home folder only when the chart is opened; a missing file is reported
        // there.
        let is_home = file.starts_with("~");
        if !is_home && !path.is_file() {
            return Err(CommandError::usage_error(format!(
                "release {}: the values file {} does not exist",
                asked.release(),
                path.display()
            ))
            .with_hint("copy it here beside gantry.yaml, or carry it in the bundle by naming it under files: in gantry.yaml"));
        }
    }
    Ok(())
}

/// A chart source as the lock writes it: its location, and its name for a chart in a repository.
fn describe_chart_source(source: &ChartSource) -> (String, Option<String>) {
    match source {
        ChartSource::Oci { repository } => (format!("oci://{repository}"), None),
        ChartSource::Repository { url, name } => (url.clone(), Some(name.clone())),
        ChartSource::Local(path) => (path.display().to_string(), None),
    }
}

/// helm, set up for the given cluster. It runs under `gantry tether`, so that it ends with this process.
pub(crate) fn open_helm(cluster: &Cluster, args: &ClusterArgs) -> Result<HelmClient> {
    let mut helm = HelmClient::new(helm::HelmBinary::locate()?)?;
    helm.kubeconfig = args.kubeconfig().map(Path::to_owned);
    // In a pod, helm finds the pod's service account by itself; there is no context to name.
    helm.context = Some(cluster.context().to_owned()).filter(|name| name != "in-cluster");
    let parent = std::process::id().to_string();
    let own = environment::find_own_binary()?;
    helm.tether = vec![own.into(), "tether".into(), "--parent".into(), parent.into(), "--".into()];
    Ok(helm)
}

/// The parent folder of a file; `.` for a bare file name.
pub(crate) fn parent_folder(file: &Path) -> &Path {
    types::site::site_folder(file)
}
