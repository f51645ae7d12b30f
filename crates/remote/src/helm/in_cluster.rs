//! helm with a cluster: what it would install, install, roll back and take away. It never waits for
//! pods (only for its hooks): whoever calls looks himself, and can say why.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semver::Version;

use super::binary::{Binary, Release};
use super::process::{self, DEADLINE, Stop};
use super::record::Revision;
use crate::scratch::Scratch;
use crate::{Error, Result};

/// `--dry-run=server` and labels on releases are there since this version.
const OLDEST: Version = Version::new(3, 13, 0);
/// Helm 4 takes a post-renderer as a plugin.
const PLUGINS: Version = Version::new(4, 0, 0);
/// What helm says when there is no such release (`pkg/storage/driver/driver.go`).
const NOT_FOUND: &str = "release: not found";
/// How long helm may take beyond what its hooks may.
const BEYOND: Duration = Duration::from_secs(60);

/// helm and the cluster that it talks to.
#[derive(Debug, Clone)]
pub struct InCluster {
    binary: Binary,
    /// The kubeconfig; helm's own way to find one when absent.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; the current one when absent.
    pub context: Option<String>,
    /// The program and its first arguments that start helm so that it ends with this process: helm's
    /// own command line follows. helm is started directly when empty.
    pub tether: Vec<OsString>,
}

/// A release that is to be installed, or upgraded.
#[derive(Debug, Clone)]
pub struct Install {
    /// The chart, its name, namespace, values and `--set` expressions.
    pub release: Release,
    /// What its objects go through before they reach the cluster.
    pub post_renderer: Option<PostRenderer>,
    /// Labels of helm's record (`key=value`).
    pub labels: Vec<String>,
}

/// A post-renderer in both forms that helm takes.
#[derive(Debug, Clone)]
pub struct PostRenderer {
    /// Helm 3: the program.
    pub program: PathBuf,
    /// Helm 3: arguments in front of the others.
    pub verb: Vec<String>,
    /// Helm 4: the folder of plugins.
    pub plugins: PathBuf,
    /// Helm 4: the plugin's name in it.
    pub plugin: String,
    /// Its arguments, with helm 3 and helm 4.
    pub arguments: Vec<String>,
}

impl InCluster {
    /// helm with the cluster of a kubeconfig and context; its version is checked.
    pub fn new(binary: Binary) -> Result<Self> {
        let version = binary.version();
        if *version < OLDEST {
            return Err(Error::Program {
                program: "helm".into(),
                reason: format!(
                    "this is helm {version}, and releases are deployed with {OLDEST} or newer; \
                     install that, or name it in GANTRY_HELM"
                ),
            });
        }
        Ok(Self { binary, kubeconfig: None, context: None, tether: vec![] })
    }

    /// Whether post-renderers are handed hooks too, and are plugins: helm 4.
    pub fn has_plugins(&self) -> bool {
        *self.binary.version() >= PLUGINS
    }

    /// What would be installed: rendered with the cluster at hand (`lookup`, versions) and checked
    /// against its schemas. Nothing is written. Blocks.
    pub fn render(&self, install: &Install, stop: &Stop) -> Result<Revision> {
        let mut arguments = self.upgrade_arguments(install)?;
        arguments.push("--dry-run=server".into());
        self.release(&install.release, arguments, DEADLINE, install.post_renderer.as_ref(), stop)
    }

    /// Installs a release or upgrades it, and waits for its hooks. Blocks.
    pub fn upgrade(&self, install: &Install, hooks: Duration, stop: &Stop) -> Result<Revision> {
        let mut arguments = self.upgrade_arguments(install)?;
        arguments.push(timeout(hooks));
        let most = hooks + BEYOND;
        self.release(&install.release, arguments, most, install.post_renderer.as_ref(), stop)
    }

    /// Puts an earlier revision back. Blocks.
    pub fn rollback(
        &self,
        namespace: &str,
        name: &str,
        revision: u32,
        hooks: Hooks,
        stop: &Stop,
    ) -> Result<()> {
        let mut arguments: Vec<OsString> = vec!["rollback".into()];
        arguments.extend(self.place(namespace));
        hooks.say(&mut arguments);
        arguments.extend(["--".into(), name.into(), revision.to_string().into()]);
        self.said(name, arguments, hooks.most(), None, stop).map(drop)
    }

    /// Takes a release away. `false`: there was none. Blocks.
    pub fn uninstall(
        &self,
        namespace: &str,
        name: &str,
        hooks: Hooks,
        stop: &Stop,
    ) -> Result<bool> {
        let mut arguments: Vec<OsString> = vec!["uninstall".into()];
        arguments.extend(self.place(namespace));
        hooks.say(&mut arguments);
        arguments.extend(["--".into(), name.into()]);
        match self.said(name, arguments, hooks.most(), None, stop) {
            Ok(_) => Ok(true),
            Err(Error::Helm { message, .. }) if message.contains(NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn upgrade_arguments(&self, install: &Install) -> Result<Vec<OsString>> {
        let release = &install.release;
        let mut arguments: Vec<OsString> =
            ["upgrade", "--install", "--reset-values", "--output=json"].map(Into::into).into();
        arguments.extend(self.place(release.namespace.as_deref().unwrap_or("default")));
        for file in &release.values {
            arguments.extend(["--values".into(), absolute(file)?.into()]);
        }
        for expression in &release.set {
            arguments.extend(["--set".into(), expression.into()]);
        }
        for label in &install.labels {
            arguments.extend(["--labels".into(), label.into()]);
        }
        if let Some(post) = &install.post_renderer {
            arguments.push("--post-renderer".into());
            let verb = if self.has_plugins() {
                arguments.push(post.plugin.as_str().into());
                &[][..]
            } else {
                arguments.push(absolute(&post.program)?.into());
                post.verb.as_slice()
            };
            for argument in verb.iter().chain(&post.arguments) {
                arguments.push(format!("--post-renderer-args={argument}").into());
            }
        }
        Ok(arguments)
    }

    fn release(
        &self,
        release: &Release,
        mut arguments: Vec<OsString>,
        most: Duration,
        post: Option<&PostRenderer>,
        stop: &Stop,
    ) -> Result<Revision> {
        arguments.extend(["--".into(), release.name.as_str().into()]);
        arguments.push(absolute(&release.chart)?.into());
        let said = self.said(&release.name, arguments, most, post, stop)?;
        Revision::parse(&format!("what helm says of {}", release.name), &said)
    }

    /// The cluster and the namespace, as options.
    fn place(&self, namespace: &str) -> Vec<OsString> {
        let mut options: Vec<OsString> = vec!["--namespace".into(), namespace.into()];
        if let Some(file) = &self.kubeconfig {
            options.extend(["--kubeconfig".into(), file.into()]);
        }
        if let Some(context) = &self.context {
            options.extend(["--kube-context".into(), context.into()]);
        }
        options
    }

    fn said(
        &self,
        what: &str,
        arguments: Vec<OsString>,
        most: Duration,
        post: Option<&PostRenderer>,
        stop: &Stop,
    ) -> Result<String> {
        let failed = |message: String| Error::Helm { release: what.to_owned(), message };
        let home = Scratch::new("gantry-helm-")?;
        let program = self.binary.path();
        let mut command = match self.tether.split_first() {
            None => process::as_user(program, home.path()),
            Some((tether, first)) => {
                let mut command = process::as_user(Path::new(tether), home.path());
                command.args(first).arg(program);
                command
            }
        };
        if let Some(post) = post {
            command.env("HELM_PLUGINS", &post.plugins);
        }
        command.args(arguments);
        let output = process::run(command, most, stop).map_err(failed)?;
        if !output.success {
            let message = output.stderr.trim();
            let message = message.rsplit_once("Error: ").map_or(message, |(_, last)| last);
            return Err(failed(message.to_owned()));
        }
        if !output.stderr.trim().is_empty() {
            tracing::debug!("helm says of {what}: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

/// What becomes of a release's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// They run, for at most so long.
    Run(Duration),
    /// They do not.
    Skip,
}

impl Hooks {
    fn say(self, arguments: &mut Vec<OsString>) {
        arguments.push(match self {
            Self::Run(most) => timeout(most),
            Self::Skip => "--no-hooks".into(),
        });
    }

    fn most(self) -> Duration {
        match self {
            Self::Run(most) => most + BEYOND,
            Self::Skip => DEADLINE,
        }
    }
}

fn timeout(most: Duration) -> OsString {
    format!("--timeout={}s", most.as_secs().max(1)).into()
}

/// An absolute path is never taken for an option or a URL.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|cause| Error::Read { what: path.display().to_string(), cause })
}
