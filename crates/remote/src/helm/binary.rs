//! Finds the helm program, checks its version, and renders charts with it. A render reads local
//! files only and leaves nothing behind: helm's home, cache and configuration are in a temporary
//! folder, and no cluster is configured. Commands for a cluster are in `in_cluster`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use semver::Version;
use types::Cause;
use types::input::SetExpressions;

use super::process::{self, DEADLINE, HelmStop};
use super::set_arguments::SetArguments;
use super::version;
use crate::scratch::ScratchFolder;
use crate::{Error, Result};

/// The Kubernetes version for which charts are rendered, unless the input names one. It is fixed,
/// so that a lock does not depend on the version of helm that is installed.
pub const DEFAULT_KUBE_VERSION: &str = "1.33.0";
/// Oldest supported version: OCI charts are stable since it.
const OLDEST: Version = Version::new(3, 8, 0);
/// First version that is not supported, since its command line is not known yet.
const TOO_NEW: Version = Version::new(5, 0, 0);
/// The environment variable with the path of the program.
const VARIABLE: &str = "GANTRY_HELM";
/// The end of the message of helm 3 and 4 when a template fails (cmd/template.go).
const DEBUG_HINT: &str = "Use --debug flag to render out invalid YAML";

/// A helm program of a supported version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelmBinary {
    path: PathBuf,
    version: Version,
}

/// A chart and the options with which it is rendered or installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSpec {
    /// The path of the chart's folder or archive.
    pub chart: PathBuf,
    /// The release's name.
    pub name: String,
    /// The namespace; `default` when absent.
    pub namespace: Option<String>,
    /// The Kubernetes version to render for; [`DEFAULT_KUBE_VERSION`] when absent.
    pub kube_version: Option<String>,
    /// API versions that the cluster has in addition to the built-in ones.
    pub api_versions: Vec<String>,
    /// Values files; later ones override earlier ones.
    pub values: Vec<PathBuf>,
    /// Values beside the files. helm gets their texts in files, since others can read its command line.
    pub set: SetExpressions,
}

impl HelmBinary {
    /// Finds the program: the one in `GANTRY_HELM`, or `helm` on the `PATH`. Checks its version.
    pub fn locate() -> Result<Self> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::at_path(Path::new(&path)),
            None => Self::at_path(&find_on_path().ok_or_else(|| {
                Error::Program {
                    program: "helm".into(),
                    reason: format!(
                        "there is no `helm` on the PATH; install helm {OLDEST} or newer \
                     (https://helm.sh/docs/intro/install), or set {VARIABLE} to its path"
                    )
                    .into(),
                }
            })?),
        }
    }

    /// Uses the program at a path. Checks its version.
    pub fn at_path(path: &Path) -> Result<Self> {
        let next =
            format!("install helm {OLDEST} or newer, up to helm 4, or set {VARIABLE} to its path");
        let unusable = |reason: Cause| {
            let text = format!("{reason}; {next}");
            Error::Program { program: "helm".into(), reason: reason.with_text(text) }
        };
        let home = create_home()?;
        let shown = path.display();
        let mut command = process::isolated_command(path, home.path());
        command.args(["version", "--template", "{{.Version}}"]);
        let output =
            process::run_command(command, DEADLINE, &HelmStop::default()).map_err(|reason| {
                let text = format!("{shown}: {reason}");
                unusable(reason.with_text(text))
            })?;
        let text = output.stdout.trim();
        let version =
            version::parse_lenient_version(text).filter(|_| output.success).ok_or_else(|| {
                let said = if text.is_empty() { output.stderr.trim() } else { text };
                unusable(format!("{shown} does not print a helm version, but {said:?}").into())
            })?;
        // A helm that is too new is refused as well: an option with another meaning would change a
        // lock.
        if version < OLDEST || version >= TOO_NEW {
            return Err(unusable(
                format!("{shown} is helm {version}, which is not supported").into(),
            ));
        }
        Ok(Self { path: path.to_owned(), version })
    }

    /// The program's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The program's version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Renders a release with `helm template`, including hooks, tests and CRDs. Blocks until helm
    /// is done, at most five minutes. [`Error::Render`] has helm's message.
    pub fn render_release(&self, release: &ReleaseSpec) -> Result<String> {
        self.run_template(release, Some("--include-crds"))
    }

    /// Renders as [`Self::render_release`], without the files of `crds/`. These are the same whatever the
    /// values are.
    pub fn render_templates(&self, release: &ReleaseSpec) -> Result<String> {
        self.run_template(release, None)
    }

    /// Runs `helm template` with one more option.
    fn run_template(&self, release: &ReleaseSpec, option: Option<&str>) -> Result<String> {
        let failed =
            |message: Cause| Error::Render { chart: release.chart.display().to_string(), message };
        let home = create_home()?;
        let mut command = process::isolated_command(&self.path, home.path());
        let set = SetArguments::write(&release.set).map_err(failed)?;
        let arguments = template_arguments(release, &set);
        command.arg("template").args(option);
        command.args(arguments.map_err(|error| failed(Cause::from_error(error)))?);
        let output =
            process::run_command(command, DEADLINE, &HelmStop::default()).map_err(failed)?;
        if !output.success {
            let message = output.stderr.trim();
            let message = message.strip_prefix("Error: ").unwrap_or(message);
            // Gantry has no such option.
            let message = message.strip_suffix(DEBUG_HINT).unwrap_or(message).trim_end();
            return Err(failed(shorten_includes(message).into()));
        }
        if !output.stderr.trim().is_empty() {
            tracing::debug!(chart = %release.chart.display(), "helm says: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

/// A message of helm with the first and the last of very many templates that include each other: one
/// that includes itself is named a thousand times.
fn shorten_includes(message: &str) -> String {
    const INCLUDE: &str = ": error calling include: ";
    // Charts include helpers from helpers, a few levels deep.
    const MOST: usize = 12;
    let calls: Vec<&str> = message.split(INCLUDE).collect();
    match calls.as_slice() {
        [first, second, more @ .., last] if calls.len() > MOST => {
            format!("{first}{INCLUDE}{second}{INCLUDE}(and so on {} times): {last}", more.len())
        }
        _ => message.to_owned(),
    }
}

/// The arguments of `helm template`.
fn template_arguments(release: &ReleaseSpec, set: &SetArguments) -> std::io::Result<Vec<OsString>> {
    let mut arguments: Vec<OsString> = Vec::new();
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
    arguments.extend(set.arguments.iter().cloned());
    // After this nothing is taken for an option, whatever the release is called.
    arguments.push("--".into());
    arguments.push(release.name.as_str().into());
    arguments.push(std::path::absolute(&release.chart)?.into());
    Ok(arguments)
}

/// Creates the folder that is helm's home for one command.
fn create_home() -> Result<ScratchFolder> {
    ScratchFolder::new("gantry-helm-")
}

fn find_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|file| file.is_file())
}
