//! What the charts are read and rendered with: archives and folders, helm, and a generated chart of
//! many sub-charts.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chart::{HelmChart, RenderError};

/// The version of Kubernetes that the charts are rendered for; helm built from Go modules believes
/// in an old one that many charts refuse.
const KUBE_VERSION: &str = "1.33.0";
/// Sub-charts of the generated umbrella.
const SUB_CHARTS: usize = 100;
/// No file of a chart is longer; what is longer is no chart.
const LONGEST_FILE: u64 = 32 << 20;

/// Who runs helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A person who types `helm template`.
    Person,
    /// Gantry, which runs it as [`remote::helm::Binary`] does.
    Gantry,
}

/// Renders with helm, with the values in `own` and an overlay on top.
pub(super) fn helm(
    caller: Caller,
    archive: &Path,
    own: &Path,
    scratch: &Path,
    overlay: Option<&str>,
) -> Result<String, RenderError> {
    let failed = |message: String| RenderError { message };
    let mut command = Command::new(helm_binary());
    if caller == Caller::Gantry {
        command.env("GOGC", remote::helm::GARBAGE);
    }
    command.arg("template").arg("rel").arg(archive).args([
        "--include-crds",
        "--kube-version",
        KUBE_VERSION,
    ]);
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

/// A generated chart of many sub-charts, every third of which knows the global registry.
pub(super) fn umbrella(folder: &Path) -> std::io::Result<PathBuf> {
    let chart = folder.join("umbrella");
    std::fs::create_dir_all(&chart)?;
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: umbrella\nversion: 1.0.0\n")?;
    std::fs::write(chart.join("values.yaml"), "global: {imageRegistry: ''}\n")?;
    for number in 0..SUB_CHARTS {
        let own = chart.join(format!("charts/sub{number}"));
        std::fs::create_dir_all(own.join("templates"))?;
        let head = format!("apiVersion: v2\nname: sub{number}\nversion: 1.0.0\n");
        std::fs::write(own.join("Chart.yaml"), head)?;
        let values =
            format!("image: {{registry: quay.io, repository: org/app{number}, tag: '1'}}\n");
        std::fs::write(own.join("values.yaml"), values)?;
        let registry = match number % 3 {
            0 => "{{ .Values.global.imageRegistry | default .Values.image.registry }}",
            _ => "{{ .Values.image.registry }}",
        };
        let template = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: sub{number}}}\nspec: {{template: \
             {{spec: {{containers: [{{name: c, image: \"{registry}/{{{{ .Values.image.repository }}}}:{{{{ \
             .Values.image.tag }}}}\"}}]}}}}}}\n"
        );
        std::fs::write(own.join("templates/deployment.yaml"), template)?;
    }
    Ok(chart)
}

/// Reads a chart's archive or folder.
pub(super) fn read(archive: &Path) -> Result<HelmChart, String> {
    if archive.is_dir() {
        let mut files = Vec::new();
        folder_files(archive, archive, &mut files).map_err(|error| error.to_string())?;
        return HelmChart::read(files).map_err(|error| format!("{}: {error}", archive.display()));
    }
    let named = |error: std::io::Error| format!("{}: {error}", archive.display());
    let mut tar =
        tar::Archive::new(flate2::read::GzDecoder::new(File::open(archive).map_err(named)?));
    let mut files = Vec::new();
    for entry in tar.entries().map_err(named)? {
        let entry = entry.map_err(named)?;
        let path = entry.path().map_err(named)?.display().to_string();
        let mut bytes = Vec::new();
        entry.take(LONGEST_FILE).read_to_end(&mut bytes).map_err(named)?;
        files.push((path, bytes));
    }
    HelmChart::read(files).map_err(|error| format!("{}: {error}", archive.display()))
}

fn folder_files(
    root: &Path,
    folder: &Path,
    files: &mut Vec<(String, Vec<u8>)>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folder_files(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            files.push((name.display().to_string(), std::fs::read(&path)?));
        }
    }
    Ok(())
}
