//! What the charts are read and rendered with.

use std::path::{Path, PathBuf};
use std::process::Command;

use chart::{HelmChart, RenderError, values};
use serde_json::Value;

/// The version of Kubernetes that the charts are rendered for; helm built from Go modules believes
/// in an old one that many charts refuse.
const KUBE_VERSION: &str = "1.33.0";

/// Where a chart comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MeasuredChartKind {
    /// A published chart.
    Archive,
    /// A folder: a small chart with one pattern.
    Folder,
    /// Made for the measurement.
    Generated,
}

/// A chart to measure.
pub(super) struct ChartUnderTest {
    pub(super) origin: MeasuredChartKind,
    /// The archive or folder.
    pub(super) path: PathBuf,
    /// The user's values, if the file is there.
    pub(super) values: PathBuf,
}

/// Who runs helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A person who types `helm template`.
    Person,
    /// Gantry, which runs it as [`remote::helm::HelmBinary`] does.
    Gantry,
}

/// Renders with helm, with the values in `own` and an overlay on top.
pub(super) fn render_chart(
    caller: Caller,
    archive: &Path,
    own: &Path,
    scratch: &Path,
    overlay: Option<&str>,
) -> Result<String, RenderError> {
    let failed = |message: String| RenderError { message };
    let mut command = Command::new(helm_binary());
    if caller == Caller::Gantry {
        command.envs(remote::helm::GO_SETTINGS);
    }
    command.arg("template").arg("rel").arg(archive).args(["--kube-version", KUBE_VERSION]);
    // The files of crds/ are the same in all renders.
    if overlay.is_none() {
        command.arg("--include-crds");
    }
    if own.exists() {
        command.arg("-f").arg(own);
    }
    let file;
    if let Some(overlay) = overlay {
        file = tempfile::NamedTempFile::new_in(scratch).map_err(|e| failed(e.to_string()))?;
        std::fs::write(file.path(), overlay).map_err(|error| failed(error.to_string()))?;
        command.arg("-f").arg(file.path());
    }
    let output = command
        .output()
        .map_err(|error| failed(format!("helm cannot be run ({error}); run dev/setup")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))
}

/// The helm of dev/setup, else the one on the path.
fn helm_binary() -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let own = Path::new(&home).join(".cache/gantry-dev/bin/helm");
    if own.exists() { own } else { PathBuf::from("helm") }
}

/// Reads a chart's archive or folder.
pub(super) fn read_chart(archive: &Path) -> Result<HelmChart, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", archive.display());
    let files = remote::helm::read_chart_files(archive).map_err(|error| named(&error))?;
    HelmChart::read(files).map_err(|error| named(&error))
}

/// The values in a file; none if there is no such file.
pub(super) fn read_user_values(file: &Path) -> Result<Value, String> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    values::read_values(&file.display().to_string(), &text).map_err(|error| error.to_string())
}
