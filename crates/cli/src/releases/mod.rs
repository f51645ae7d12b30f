//! What the verbs on releases do alike: which of gantry.yaml's charts are meant, where their archives
//! are on the inside, and each of them moved to the site, proven and ready for helm.

mod moved;
mod source;

use std::path::Path;
use std::time::Duration;

use cluster::Cluster;
use deploy::release::PullSecret;
use net::Credentials;
use remote::helm::{self, InCluster};
use types::input::{Chart, ChartSource, Input};
use types::lock::{self, Lock};
use types::site::Site;

pub(crate) use moved::{Moved, Mover, Way};
pub(crate) use source::Archives;

use crate::clusters::ClusterArgs;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::world;

/// The namespace of a chart that names none, as helm has it.
const DEFAULT: &str = "default";

/// A chart of gantry.yaml that is to be installed.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its number in gantry.yaml.
    pub(crate) number: usize,
    /// As gantry.yaml has it, with the release's name and namespace.
    pub(crate) chart: Chart,
    /// As the lock has it.
    pub(crate) locked: lock::Chart,
}

impl Asked {
    /// The release's name.
    pub(crate) fn release(&self) -> &str {
        &self.locked.release
    }
}

/// The site's pull secret with the credential for its registry, where site.yaml names one.
pub(crate) fn pull_secret(site: &Site, credentials: &Credentials) -> Result<Option<PullSecret>> {
    let Some(name) = site.registry.pull_secret.clone() else { return Ok(None) };
    let host = site.registry.prefix()?.registry().to_owned();
    let credential = credentials.find(&host)?;
    Ok(Some(PullSecret { name, host, credential }))
}

/// The charts that names select; all when there are none. Their values files are there.
pub(crate) fn asked(
    context: &Context,
    input: &Input,
    lock: &Lock,
    names: &[String],
) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for (number, chart) in input.charts.iter().enumerate() {
        let locked = locked(chart, lock).ok_or_else(|| {
            let (text, _) = words(&chart.source);
            CommandError::usage(format!(
                "chart {text} is not in gantry.lock as gantry.yaml asks for it"
            ))
            .hint("lock again on the outside: gantry lock, then fetch, pack and load")
        })?;
        let namespace = chart.namespace.clone().unwrap_or_else(|| DEFAULT.to_owned());
        let chart = Chart {
            release: Some(locked.release.clone()),
            namespace: Some(namespace),
            ..chart.clone()
        };
        all.push(Asked { number, chart, locked: locked.clone() });
    }
    let known: Vec<&str> = all.iter().map(Asked::release).collect();
    if known.is_empty() {
        return Err(CommandError::usage("gantry.yaml has no charts"));
    }
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(CommandError::usage(format!(
            "gantry.yaml has no release {unknown:?}; it has: {}",
            known.join(", ")
        )));
    }
    all.retain(|one| names.is_empty() || names.iter().any(|name| name == one.release()));
    for one in &all {
        check_values(context, one)?;
    }
    Ok(all)
}

/// The releases of an input with their namespaces, in the order in which they are installed.
pub(crate) fn places(input: &Input, lock: &Lock) -> Vec<(String, String)> {
    let order = input.order(&|_| false);
    order.iter().filter_map(|number| place(&input.charts[*number], lock)).collect()
}

fn place(chart: &Chart, lock: &Lock) -> Option<(String, String)> {
    let locked = locked(chart, lock)?;
    let namespace = chart.namespace.clone().unwrap_or_else(|| DEFAULT.to_owned());
    Some((locked.release.clone(), namespace))
}

/// What the lock has of a chart.
fn locked<'a>(chart: &Chart, lock: &'a Lock) -> Option<&'a lock::Chart> {
    let (text, name) = words(&chart.source);
    lock.charts.iter().find(|locked| {
        locked.chart == text
            && locked.name == name
            && locked.requested == chart.version
            && chart.release.as_ref().is_none_or(|release| *release == locked.release)
    })
}

/// Values files do not travel with the chart: what is missing is told before anything is done.
fn check_values(context: &Context, asked: &Asked) -> Result<()> {
    for file in &asked.chart.values {
        let path = context.directory.join(file);
        let is_home = file.starts_with("~");
        if !is_home && !path.is_file() {
            return Err(CommandError::usage(format!(
                "release {}: the values file {} is not here",
                asked.release(),
                path.display()
            ))
            .hint("carry it beside gantry.yaml: with it, or in the bundle as one of its files:"));
        }
    }
    Ok(())
}

/// The chart as the lock has it: its words, and its name in a repository.
fn words(source: &ChartSource) -> (String, Option<String>) {
    match source {
        ChartSource::Oci { repository } => (format!("oci://{repository}"), None),
        ChartSource::Repository { url, name } => (url.clone(), Some(name.clone())),
        ChartSource::Local(path) => (path.display().to_string(), None),
    }
}

/// helm with the cluster that is meant; it ends with this process.
pub(crate) fn helm(cluster: &Cluster, args: &ClusterArgs) -> Result<InCluster> {
    let mut helm = InCluster::new(helm::Binary::locate()?)?;
    helm.kubeconfig = args.kubeconfig().map(Path::to_owned);
    // Inside of a pod helm finds the pod's own account, which has no context.
    helm.context = Some(cluster.context().to_owned()).filter(|name| name != "in-cluster");
    let parent = std::process::id().to_string();
    let own = world::own_binary()?;
    helm.tether = vec![own.into(), "tether".into(), "--parent".into(), parent.into(), "--".into()];
    Ok(helm)
}

/// How long something may take: `90s`, `10m`, `1h`, or seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok().filter(|number| *number > 0 && seconds > 0);
    let seconds = number.and_then(|number| number.checked_mul(seconds));
    seconds
        .filter(|seconds| *seconds <= 7 * 24 * 3600)
        .map(Duration::from_secs)
        .ok_or_else(|| "give a time of up to a week such as 90s, 10m or 1h".to_owned())
}

/// The folder of a file, `.` where it has none.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
