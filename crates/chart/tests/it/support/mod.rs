//! Real charts, small charts made in the test, and helm, for the tests of this folder.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chart::{HelmChart, RenderError};
use gantry_chart as chart;
use serde_json::Value;

/// The archives of `GANTRY_CHARTS` (default: beside the repository).
pub(crate) fn archives() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let near = [root.join("../shared/charts"), root.join("../../shared/charts")];
    let given = std::env::var("GANTRY_CHARTS").ok().map(PathBuf::from);
    let folder = given.or_else(|| near.into_iter().find(|folder| folder.is_dir()));
    let folder = folder.expect("no charts: set GANTRY_CHARTS");
    let entries = std::fs::read_dir(folder).expect("GANTRY_CHARTS is a folder of charts");
    let mut archives: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .collect();
    archives.sort();
    assert!(!archives.is_empty(), "no charts: set GANTRY_CHARTS");
    archives
}

/// The values file that the tests use for a chart.
pub(crate) fn values_file(chart: &HelmChart) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/charts");
    folder.join(format!("{}.yaml", chart.name()))
}

/// Reads a chart's archive.
pub(crate) fn read(archive: &Path) -> HelmChart {
    let file = std::fs::File::open(archive).unwrap();
    let mut files = Vec::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(file)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.push((path, bytes));
    }
    HelmChart::read(files).unwrap()
}

/// Renders with the helm that dev/setup installs.
pub(crate) fn helm(
    chart: &Path,
    values: &Path,
    overlay: Option<&str>,
) -> Result<String, RenderError> {
    let own = Path::new(&std::env::var("HOME").unwrap()).join(".cache/gantry-dev/bin/helm");
    let mut command = Command::new(if own.exists() { own } else { "helm".into() });
    command.arg("template").arg("rel").arg(chart).args(["--kube-version", "1.33.0"]);
    if values.exists() {
        command.arg("-f").arg(values);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    if let Some(overlay) = overlay {
        std::fs::write(file.path(), overlay).unwrap();
        command.arg("-f").arg(file.path());
    }
    let output = command.output().expect("no helm: run dev/setup");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(RenderError { message: String::from_utf8_lossy(&output.stderr).into_owned() })
    }
}

/// The containers and init containers of a stream, by `Kind/object/container`.
pub(crate) fn containers(stream: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for document in chart::manifest::Manifests::read(stream).documents {
        let pods = ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"];
        let Some(pod) = pods.iter().find_map(|at| {
            document.value.pointer(at).filter(|spec| spec.get("containers").is_some())
        }) else {
            continue;
        };
        for list in ["initContainers", "containers"] {
            for container in pod.get(list).and_then(Value::as_array).into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default();
                let key = format!("{}/{}/{name}", document.kind(), document.name());
                let mut container = container.clone();
                container["volumes"] = pod.get("volumes").cloned().unwrap_or_default();
                found.insert(key, container);
            }
        }
    }
    found
}

/// The value of an environment variable of a container.
pub(crate) fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let all = container.get("env")?.as_array()?;
    let mut own = all.iter().filter(|item| item["name"] == name);
    let found = own.next()?.get("value")?.as_str();
    assert!(own.next().is_none(), "{name} is there twice");
    found
}

/// A chart that a test writes into a temporary folder.
pub(crate) struct Written {
    folder: tempfile::TempDir,
    files: Vec<(String, Vec<u8>)>,
}

impl Written {
    /// Writes a chart of these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
        Self { folder, files: files.collect() }
    }

    /// The chart.
    pub(crate) fn chart(&self) -> HelmChart {
        HelmChart::read(self.files.clone()).unwrap()
    }

    /// Renders it with its default values and an overlay.
    pub(crate) fn render(&self, overlay: Option<&str>) -> Result<String, RenderError> {
        helm(self.folder.path(), Path::new("no values"), overlay)
    }
}
