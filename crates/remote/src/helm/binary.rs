//! The helm program: found, checked, and run to render a chart. It reads local files only and
//! leaves nothing behind: its home, cache and configuration are a temporary folder, and it knows
//! no cluster.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use semver::Version;

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
/// Largest render; that of kube-prometheus-stack, the largest of the known ones, has 6 MB.
const MAX_RENDER: u64 = 256 << 20;
/// What helm says on failure is shown to a person.
const MAX_MESSAGE: u64 = 1 << 20;
/// Large umbrellas render in 20 s on a slow machine.
const DEADLINE: Duration = Duration::from_mins(5);

/// A helm program that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    path: PathBuf,
    version: Version,
}

/// How much garbage Go lets gather in helm (`GOGC`), in percent of what is in use: helm lives for a tenth of a second
/// and spends a quarter of it on collecting. Two renders of onyx side by side took 92 ms instead of
/// 129 ms, kube-prometheus-stack 152 MB instead of 127 MB.
pub const GARBAGE: &str = "400";

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
        let mut command = command(path, home.path());
        command.args(["version", "--template", "{{.Version}}"]);
        let output = run(command).map_err(|reason| unusable(format!("{shown}: {reason}")))?;
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
        let mut command = command(&self.path, home.path());
        command.args(arguments(release).map_err(|error| failed(error.to_string()))?);
        let output = run(command).map_err(failed)?;
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

/// helm with nothing of this user's around it: no plugins, no repositories, no cluster, no proxy.
fn command(path: &Path, home: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.env("GOGC", GARBAGE);
    command.env("HOME", home).env("TMPDIR", home).env("KUBECONFIG", home.join("none"));
    for (variable, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(folder));
    }
    command
}

struct Output {
    success: bool,
    stdout: String,
    stderr: String,
}

/// Runs a program to its end, and reads what it says up to a bound.
fn run(mut command: Command) -> Result<Output, String> {
    let mut child = command.spawn().map_err(|error| format!("it cannot be run: {error}"))?;
    let (sender, done) = mpsc::channel();
    let stdout = child.stdout.take().map(|pipe| read(pipe, MAX_RENDER, sender.clone()));
    let stderr = child.stderr.take().map(|pipe| read(pipe, MAX_MESSAGE, sender));
    for _ in 0..2 {
        if done.recv_timeout(DEADLINE).is_err() {
            // Already gone is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it was not done after {} s", DEADLINE.as_secs()));
        }
    }
    let status = child.wait().map_err(|error| format!("it was lost: {error}"))?;
    let text = |pipe: Option<thread::JoinHandle<Vec<u8>>>| {
        pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if stdout.len() as u64 > MAX_RENDER {
        return Err(format!("its output has more than {MAX_RENDER} bytes"));
    }
    Ok(Output {
        success: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

fn read(
    mut pipe: impl Read + Send + 'static,
    most: u64,
    done: mpsc::Sender<()>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends with the program, whose status tells more.
        let _ = pipe.by_ref().take(most + 1).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let _ = done.send(());
        bytes
    })
}

fn temporary() -> Result<Scratch> {
    Scratch::new("gantry-helm-")
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|file| file.is_file())
}
