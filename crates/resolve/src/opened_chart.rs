//! A chart that is opened with a user's values: its files are read, its values are merged like helm
//! merges them, and it renders with any overlay on top. The pure `chart` crate works on what comes
//! from here.

use std::fs;
use std::path::{Path, PathBuf};

use chart::inspect::Inspection;
use chart::{HelmChart, OperatorRules, RenderError, values};
use remote::helm;
use remote::scratch::ScratchFolder;
use serde_json::Value;
use types::Cause;
use types::input::SetExpressions;

/// The longest values file that is read: far above any real one, and a bound on memory.
const MAX_VALUES: u64 = 32 << 20;
/// The name of the file with the merged `--set` values.
const SET: &str = "set.yaml";
/// The name of the archive of a chart folder whose dependencies had to be built.
const CHART: &str = "chart.tgz";

/// A chart, opened with its values.
#[derive(Debug)]
pub struct OpenedChart {
    /// The chart's path in messages.
    name: String,
    binary: helm::HelmBinary,
    given: helm::ReleaseSpec,
    /// For renders with an overlay: like `given`, but with `--set` turned into a values file. In
    /// helm, `--set` overrides every values file, so it would also override the overlay.
    folded: helm::ReleaseSpec,
    chart: HelmChart,
    values: Value,
    scratch: ScratchFolder,
}

impl OpenedChart {
    /// Reads the chart and its values. Blocks on the disk, and on helm if there are `--set`
    /// expressions. Does not render the chart yet.
    pub fn open(binary: helm::HelmBinary, mut given: helm::ReleaseSpec) -> remote::Result<Self> {
        let name = given.chart.display().to_string();
        let scratch = ScratchFolder::new("gantry-release-")?;
        // helm renders and installs a folder only if its dependencies are in its `charts/`.
        if given.chart.is_dir()
            && let Some(whole) = helm::package_incomplete_chart(&given.chart)?
        {
            given.chart = scratch.path().join(CHART);
            fs::write(&given.chart, &whole.bytes)
                .map_err(|cause| write_error(&given.chart, cause))?;
        }
        let files = helm::read_chart_files(&given.chart)?;
        let chart = HelmChart::read(files).map_err(|error| chart_error(&name, error))?;
        let mut values = Value::Object(serde_json::Map::new());
        for file in &given.values {
            let own = read_values_file(file)?;
            values::merge_values(&mut values, &own);
        }
        let mut folded = given.clone();
        if !given.set.is_empty() {
            let all = merge_values_with_helm(&binary, &name, &given, scratch.path())?;
            let path = scratch.path().join(SET);
            write_text(&path, &all.to_string())?;
            values::merge_values(&mut values, &all);
            folded.set = SetExpressions::default();
            folded.values.push(path);
        }
        Ok(Self { name, binary, given, folded, chart, values, scratch })
    }

    /// The arguments for helm: the chart's file, its values files and `--set` expressions,
    /// including those of [`Self::add_values`]. The files exist as long as this value does.
    pub fn helm_release(&self) -> &helm::ReleaseSpec {
        &self.given
    }

    /// The chart.
    pub fn chart(&self) -> &HelmChart {
        &self.chart
    }

    /// The values files and `--set` expressions, merged.
    pub fn values(&self) -> &Value {
        &self.values
    }

    /// Adds values to every later render, below the overlay. `--offline` uses this for the switches
    /// that it turns off.
    pub fn add_values(&mut self, more: &Value) -> remote::Result<()> {
        let path = self.scratch.path().join(format!("more-{}.yaml", self.folded.values.len()));
        write_text(&path, &more.to_string())?;
        values::merge_values(&mut self.values, more);
        self.given.values.push(path.clone());
        self.folded.values.push(path);
        Ok(())
    }

    /// Renders the chart and finds everything that it may run.
    pub fn inspect(&self, rules: &OperatorRules) -> remote::Result<Inspection> {
        let render = |overlay: Option<&str>| self.render_variant(overlay);
        chart::inspect::inspect_chart(&self.chart, &self.values, &render, rules)
            .map_err(|error| self.to_remote_error(error))
    }

    /// Adds this chart's name to an error of the chart crate.
    pub fn to_remote_error(&self, error: chart::Error) -> remote::Error {
        match error {
            chart::Error::Render { message } => {
                remote::Error::Render { chart: self.name.clone(), message: message.into() }
            }
            other => chart_error(&self.name, other),
        }
    }

    /// Renders with the values alone, or with an overlay on top of them.
    pub fn render(&self, overlay: Option<&str>) -> Result<String, RenderError> {
        self.render_with(overlay, helm::HelmBinary::render_release)
    }

    /// Renders as [`Self::render`], with an overlay without the files of `crds/`: for comparing it with
    /// the render without one.
    pub fn render_variant(&self, overlay: Option<&str>) -> Result<String, RenderError> {
        self.render_with(overlay, helm::HelmBinary::render_templates)
    }

    /// Renders with the values alone, or with an overlay by the function `with_overlay`.
    fn render_with(
        &self,
        overlay: Option<&str>,
        with_overlay: fn(&helm::HelmBinary, &helm::ReleaseSpec) -> remote::Result<String>,
    ) -> Result<String, RenderError> {
        let failed = |error: remote::Error| RenderError {
            message: match error {
                remote::Error::Render { message, .. } => message.to_string(),
                other => other.to_string(),
            },
        };
        // The plain render takes exactly what helm will take at the installation.
        let Some(overlay) = overlay else {
            return self.binary.render_release(&self.given).map_err(failed);
        };
        // A file of its own for each render: several may run at once.
        let file = tempfile::Builder::new()
            .suffix(".yaml")
            .tempfile_in(self.scratch.path())
            .map_err(|cause| failed(write_error(self.scratch.path(), cause)))?;
        write_text(file.path(), overlay).map_err(failed)?;
        let mut release = self.folded.clone();
        release.values.push(file.path().to_owned());
        with_overlay(&self.binary, &release).map_err(failed)
    }

    /// The path of the first value of an overlay that a `--set` expression overrides; `None` if
    /// there is none. helm would install the chart with the value of the expression, whatever the
    /// overlay says.
    pub fn find_value_overridden_by_set(&self, overlay: &Value) -> remote::Result<Option<String>> {
        if self.given.set.is_empty() {
            return Ok(None);
        }
        let path = self.scratch.path().join("overlay.yaml");
        write_text(&path, &overlay.to_string())?;
        let mut given = self.given.clone();
        given.values.push(path);
        let all = merge_values_with_helm(&self.binary, &self.name, &given, self.scratch.path())?;
        Ok(first_difference(overlay, &all, ""))
    }
}

/// The path of the first leaf of `wanted` that is different or missing in `all`.
fn first_difference(wanted: &Value, all: &Value, path: &str) -> Option<String> {
    match (wanted, all) {
        (Value::Object(wanted), Value::Object(all)) => wanted.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            first_difference(value, all.get(key).unwrap_or(&Value::Null), &path)
        }),
        _ => (wanted != all).then(|| path.to_owned()),
    }
}

/// Merges values files and `--set` expressions by helm itself: renders a chart that prints its
/// values. `--set` has its own syntax (lists, escapes, types), which is not parsed again here. `name` is
/// the chart in messages.
fn merge_values_with_helm(
    binary: &helm::HelmBinary,
    name: &str,
    given: &helm::ReleaseSpec,
    scratch: &Path,
) -> remote::Result<Value> {
    let chart = scratch.join("values");
    let templates = chart.join("templates");
    fs::create_dir_all(&templates).map_err(|cause| write_error(&templates, cause))?;
    write_text(&chart.join("Chart.yaml"), "apiVersion: v2\nname: values\nversion: 1.0.0\n")?;
    write_text(&templates.join("values.yaml"), "values: {{ .Values | toJson }}\n")?;
    let release = helm::ReleaseSpec { chart: chart.clone(), ..given.clone() };
    let rendered = binary.render_release(&release).map_err(|error| match error {
        remote::Error::Render { message, .. } => {
            remote::Error::Render { chart: name.to_owned(), message }
        }
        other => other,
    })?;
    let all = values::read_values("--set", &rendered).map_err(|error| chart_error(name, error))?;
    Ok(all.get("values").cloned().unwrap_or_default())
}

fn read_values_file(path: &PathBuf) -> remote::Result<Value> {
    let shown = path.display().to_string();
    let unreadable = |cause| remote::Error::Read { what: format!("values file {shown}"), cause };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_VALUES {
        return Err(remote::Error::TooLarge { what: shown, size, most: MAX_VALUES });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    values::read_values(&shown, &text).map_err(|error| match error {
        chart::Error::File { reason, .. } => {
            remote::Error::Local { path: path.clone(), reason: reason.into() }
        }
        chart::Error::InvalidYaml { fault, .. } => {
            remote::Error::Local { path: path.clone(), reason: Cause::from_error(fault) }
        }
        other => chart_error(&shown, other),
    })
}

fn chart_error(chart: &str, error: chart::Error) -> remote::Error {
    remote::Error::Local { path: chart.into(), reason: Cause::from_error(error) }
}

fn write_text(path: &Path, text: &str) -> remote::Result<()> {
    fs::write(path, text).map_err(|cause| write_error(path, cause))
}

fn write_error(path: &Path, cause: std::io::Error) -> remote::Error {
    remote::Error::Write { what: path.display().to_string(), cause }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_value_that_an_expression_overrides_is_named_by_its_path() {
        let overlay = json!({"image": {"registry": "site", "tag": "1"}, "replicas": 2});
        let found = |all: Value| first_difference(&overlay, &all, "");
        assert_eq!(found(overlay.clone()), None);
        let more =
            json!({"image": {"registry": "site", "tag": "1", "own": true}, "replicas": 2, "x": 1});
        assert_eq!(found(more), None);
        let other = json!({"image": {"registry": "docker.io", "tag": "1"}, "replicas": 2});
        assert_eq!(found(other), Some("image.registry".into()));
        assert_eq!(found(json!({"image": "x", "replicas": 2})), Some("image".into()));
        assert_eq!(found(json!({"replicas": 2})), Some("image".into()));
    }
}
