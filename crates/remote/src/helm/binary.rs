//! The helm program: found, checked, and run to render a chart. It reads local files only and
//! leaves nothing behind: its home, cache and configuration are a temporary folder, and it knows
//! no cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use semver::Version;

use super::process::{self, DEADLINE, Stop};
use super::version;
use crate::scratch::Scratch;
use crate::{Error, Result};

/// The version of Kubernetes that charts are rendered for when the input names none. Pinned, so
/// that a lock does not change with the helm that made it.
pub const DEFAULT_KUBE_VERSION: &str = "1.33.0";
/// OCI charts are stable since this version.
const OLDEST: Version = Version::new(3, 8, 0);
/// The first version whose command line nobody has looked at.
const TOO_NEW: Version = Version::new(5, 0, 0);
/// A variable that names the program.
const VARIABLE: &str = "GANTRY_HELM";
/// What helm 3 and 4 end their message with when a template fails (cmd/template.go).
const DEBUG_HINT: &str = "Use --debug flag to render out invalid YAML";
/// A helm program that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
    version: Version,
}

/// What is rendered, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The chart's folder or archive on this machine.
    pub chart: PathBuf,
    /// The release's name.
    pub name: String,
    /// The namespace; `default` when absent.
    pub namespace: Option<String>,
    /// The version of Kubernetes; [`DEFAULT_KUBE_VERSION`] when absent.
    pub kube_version: Option<String>,
    /// API versions that the cluster has beside the built-in ones.
    pub api_versions: Vec<String>,
    /// Values files, the last one wins.
    pub values: Vec<PathBuf>,
    /// `--set` expressions.
    pub set: Vec<String>,
}

impl Binary {
    /// The program that `GANTRY_HELM` names, or `helm` on the `PATH`; its version is checked.
    pub fn locate() -> Result<Self> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::at(Path::new(&path)),
            None => Self::at(&on_path().ok_or_else(|| Error::Program {
                program: "helm".into(),
                reason: format!(
                    "there is no `helm` on the PATH; install helm {OLDEST} or newer \
                     (https://helm.sh/docs/intro/install), or name it in {VARIABLE}"
                ),
            })?),
        }
    }

    /// The program at a path; its version is checked.
    pub fn at(path: &Path) -> Result<Self> {
        let next =
            format!("install helm {OLDEST} or newer, up to helm 4, or name it in {VARIABLE}");
        let unusable = |reason: String| {
            let reason = format!("{reason}; {next}");
            Error::Program { program: "helm".into(), reason }
        };
        let home = temporary()?;
        let shown = path.display();
        let mut command = process::alone(path, home.path());
        command.args(["version", "--template", "{{.Version}}"]);
        let output = process::run(command, DEADLINE, &Stop::default())
            .map_err(|reason| unusable(format!("{shown}: {reason}")))?;
        let text = output.stdout.trim();
        let version = version::lenient(text).filter(|_| output.success).ok_or_else(|| {
            let said = if text.is_empty() { output.stderr.trim() } else { text };
            unusable(format!("{shown} does not tell its version, it says {said:?}"))
        })?;
        if version < OLDEST || version >= TOO_NEW {
            return Err(unusable(format!("{shown} is helm {version}")));
        }
        Ok(Self { path: path.to_owned(), version })
    }

    /// Where the program is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The program's version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Renders a release as `helm template` does, with its hooks, tests and CRDs. Blocks until helm
    /// is done, at most five minutes.
    pub fn template(&self, release: &Release) -> Result<String> {
        let failed =
            |message: String| Error::Render { chart: release.chart.display().to_string(), message };
        let home = temporary()?;
        let mut command = process::alone(&self.path, home.path());
        command.args(arguments(release).map_err(|error| failed(error.to_string()))?);
        let output = process::run(command, DEADLINE, &Stop::default()).map_err(failed)?;
        if !output.success {
            let message = output.stderr.trim();
            let message = message.strip_prefix("Error: ").unwrap_or(message);
            // An option of helm's that is not ours.
            let message = message.strip_suffix(DEBUG_HINT).unwrap_or(message).trim_end();
            return Err(failed(message.to_owned()));
        }
        if !output.stderr.trim().is_empty() {
            tracing::debug!(chart = %release.chart.display(), "helm says: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

fn arguments(release: &Release) -> std::io::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = vec!["template".into(), "--include-crds".into()];
    let mut option = |name: &str, value: OsString| {
        arguments.push(name.into());
        arguments.push(value);
    };
    option("--namespace", release.namespace.as_deref().unwrap_or("default").into());
    option(
        "--kube-version",
        release.kube_version.as_deref().unwrap_or(DEFAULT_KUBE_VERSION).into(),
    );
    for version in &release.api_versions {
        option("--api-versions", version.into());
    }
    for file in &release.values {
        // An absolute path is never taken for an option or a URL.
        option("--values", std::path::absolute(file)?.into());
    }
    for expression in &release.set {
        option("--set", expression.into());
    }
    arguments.push("--".into());
    arguments.push(release.name.as_str().into());
    arguments.push(std::path::absolute(&release.chart)?.into());
    Ok(arguments)
}

fn temporary() -> Result<Scratch> {
    Scratch::new("gantry-helm-")
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|file| file.is_file())
}
