//! The releases that are checked: selected from the lock, and rendered where their chart is on this
//! machine.

use std::path::Path;

use chart::manifest::Manifests;
use remote::helm::HelmBinary;
use serde_json::Value;
use types::input::{ChartSource, Input, InputChart};
use types::lock::{Lock, LockedChart};

use crate::{Error, Result};

/// The locked charts of the named releases, or of all releases if none is named.
pub fn select_locked_charts(lock: Option<&Lock>, named: &[String]) -> Result<Vec<LockedChart>> {
    let all = lock.map(|lock| lock.charts.as_slice()).unwrap_or_default();
    if let Some(name) = named.iter().find(|name| !all.iter().any(|one| one.release == **name)) {
        return Err(Error::UnlockedRelease { name: name.clone(), known: list_names(all) });
    }
    let is_named = |one: &&LockedChart| named.is_empty() || named.contains(&one.release);
    Ok(all.iter().filter(is_named).cloned().collect())
}

/// Refuses a declared check for a release that is not locked, which is most likely a typing error.
pub fn require_locked_releases(input: Option<&Input>, lock: Option<&Lock>) -> Result<()> {
    let charts = lock.map(|lock| lock.charts.as_slice()).unwrap_or_default();
    for check in input.iter().flat_map(|input| &input.checks) {
        if let Some(release) = &check.release
            && !charts.iter().any(|chart| chart.release == *release)
        {
            return Err(Error::CheckOfUnlockedRelease {
                check: check.name.clone(),
                release: release.clone(),
                known: list_names(charts),
            });
        }
    }
    Ok(())
}

/// The chart of gantry.yaml that a locked chart belongs to.
pub fn find_input_chart<'a>(input: &'a Input, locked: &LockedChart) -> Option<&'a InputChart> {
    input.charts.iter().find(|chart| locked.is_lock_of(chart))
}

/// Renders a locked chart; the error says why that is not possible. Only a local chart is rendered, since
/// others would need the network. Blocks on helm. `base` is the folder of gantry.yaml.
pub fn render_locked_chart(
    base: &Path,
    input: Option<&Input>,
    locked: &LockedChart,
) -> Result<Vec<Value>, String> {
    let Some(input) = input else {
        return Err(
            "there is no gantry.yaml beside gantry.lock, so its values are not known".into()
        );
    };
    let Some(chart) = find_input_chart(input, locked) else {
        return Err("gantry.yaml has no chart of this release as it was locked".into());
    };
    let ChartSource::Local(path) = &chart.source else {
        return Err(format!(
            "its chart {} is not on this machine, so the objects it will create are not known",
            locked.chart
        ));
    };
    let open = || {
        let binary = HelmBinary::locate()?;
        resolve::open_local_chart(base, chart, path, &[], binary)
    };
    let opened = open().map_err(|error| error.to_string())?;
    let text = opened.render(None).map_err(|error| error.to_string())?;
    Ok(Manifests::read(&text).documents.into_iter().map(|document| document.value).collect())
}

fn list_names(charts: &[LockedChart]) -> Vec<String> {
    charts.iter().map(|chart| chart.release.clone()).collect()
}
