//! Runs helm commands on a cluster: dry run, install or upgrade, rollback, uninstall. Helm is never
//! asked to wait for pods, only for hooks: the crate `deploy` watches the pods itself, and so can
//! say why one does not become ready.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semver::Version;
use types::Cause;

use super::binary::{HelmBinary, ReleaseSpec};
use super::process::{self, DEADLINE, HelmStop};
use super::record::ReleaseRevision;
use super::set_arguments::SetArguments;
use crate::scratch::ScratchFolder;
use crate::{Error, Result};

/// Oldest version for deploys: it introduced `--dry-run=server` and labels on releases.
const OLDEST: Version = Version::new(3, 13, 0);
/// Since this version a post-renderer is a plugin instead of a program.
const PLUGINS: Version = Version::new(4, 0, 0);
/// helm's message when a release does not exist (`pkg/storage/driver/driver.go`).
const NOT_FOUND: &str = "release: not found";
/// How long helm may take in addition to the time limit of its hooks.
const BEYOND: Duration = Duration::from_secs(60);

/// The helm program with the cluster on which it works.
#[derive(Debug, Clone)]
pub struct HelmClient {
    binary: HelmBinary,
    /// The kubeconfig file; helm looks for it by itself when absent.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; the current one when absent.
    pub context: Option<String>,
    /// The program and its first arguments that start helm so that it ends with this process:
    /// helm's own command line follows. helm is started directly when empty.
    pub tether: Vec<OsString>,
}

/// A release to install or upgrade.
#[derive(Debug, Clone)]
pub struct ReleaseInstall {
    /// The chart, and the release's name, namespace, values and expressions of `--set`.
    pub release: ReleaseSpec,
    /// The post-renderer, through which all objects go before they reach the cluster.
    pub post_renderer: Option<PostRenderer>,
    /// Labels (`key=value`) for the Secret in which helm records the release.
    pub labels: Vec<String>,
}

/// A post-renderer in both forms: as a program for helm 3, as a plugin for helm 4.
#[derive(Debug, Clone)]
pub struct PostRenderer {
    /// Helm 3: the program.
    pub program: PathBuf,
    /// Helm 3: arguments before the common ones.
    pub verb: Vec<String>,
    /// Helm 4: the folder of plugins.
    pub plugins: PathBuf,
    /// Helm 4: the plugin's name in it.
    pub plugin: String,
    /// The common arguments, for helm 3 and helm 4.
    pub arguments: Vec<String>,
}

impl HelmClient {
    /// A client with the default kubeconfig and context. Fails when this version of helm is too old
    /// to deploy.
    pub fn new(binary: HelmBinary) -> Result<Self> {
        let version = binary.version();
        if *version < OLDEST {
            return Err(Error::Program {
                program: "helm".into(),
                reason: format!(
                    "helm {version} is too old to deploy releases; install helm {OLDEST} or newer, or \
                     set GANTRY_HELM to its path"
                ).into(),
            });
        }
        Ok(Self { binary, kubeconfig: None, context: None, tether: vec![] })
    }

    /// Whether this is helm 4, where post-renderers are plugins and get the hooks as well.
    pub fn has_plugins(&self) -> bool {
        *self.binary.version() >= PLUGINS
    }

    /// Renders a release with access to the cluster (`lookup`, API versions), and checks the
    /// objects against its schemas. Nothing is written. Blocks.
    pub fn render_release(
        &self,
        install: &ReleaseInstall,
        stop: &HelmStop,
    ) -> Result<ReleaseRevision> {
        let set = write_set_arguments(&install.release)?;
        let mut arguments = self.upgrade_arguments(install, &set)?;
        arguments.push("--dry-run=server".into());
        self.run_for_revision(
            &install.release,
            arguments,
            DEADLINE,
            install.post_renderer.as_ref(),
            stop,
        )
    }

    /// Installs or upgrades a release, and waits at most `hooks` for its hooks. Blocks.
    pub fn upgrade_release(
        &self,
        install: &ReleaseInstall,
        hooks: Duration,
        stop: &HelmStop,
    ) -> Result<ReleaseRevision> {
        let set = write_set_arguments(&install.release)?;
        let mut arguments = self.upgrade_arguments(install, &set)?;
        arguments.push(timeout_option(hooks));
        let most = hooks + BEYOND;
        self.run_for_revision(
            &install.release,
            arguments,
            most,
            install.post_renderer.as_ref(),
            stop,
        )
    }

    /// Rolls a release back to an earlier revision. Blocks.
    pub fn roll_back_release(
        &self,
        namespace: &str,
        name: &str,
        revision: u32,
        hooks: HookPolicy,
        stop: &HelmStop,
    ) -> Result<()> {
        let mut arguments: Vec<OsString> = vec!["rollback".into()];
        arguments.extend(self.cluster_options(namespace));
        hooks.add_argument(&mut arguments);
        arguments.extend(["--".into(), name.into(), revision.to_string().into()]);
        self.run_helm(name, arguments, hooks.deadline(), None, stop).map(drop)
    }

    /// Uninstalls a release; `false` when there was none. Blocks.
    pub fn uninstall_release(
        &self,
        namespace: &str,
        name: &str,
        hooks: HookPolicy,
        stop: &HelmStop,
    ) -> Result<bool> {
        let mut arguments: Vec<OsString> = vec!["uninstall".into()];
        arguments.extend(self.cluster_options(namespace));
        hooks.add_argument(&mut arguments);
        arguments.extend(["--".into(), name.into()]);
        // `--ignore-not-found` exists only in newer versions of helm, so the message is compared.
        match self.run_helm(name, arguments, hooks.deadline(), None, stop) {
            Ok(_) => Ok(true),
            Err(Error::Helm { message, .. }) if message.as_str().contains(NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The common arguments of a dry run and an upgrade. `--reset-values`: values of the revision
    /// before must not leak into this one.
    fn upgrade_arguments(
        &self,
        install: &ReleaseInstall,
        set: &SetArguments,
    ) -> Result<Vec<OsString>> {
        let release = &install.release;
        let mut arguments: Vec<OsString> =
            ["upgrade", "--install", "--reset-values", "--output=json"].map(Into::into).into();
        arguments.extend(self.cluster_options(release.namespace.as_deref().unwrap_or("default")));
        for file in &release.values {
            arguments.extend(["--values".into(), absolute_path(file)?.into()]);
        }
        arguments.extend(set.arguments.iter().cloned());
        for label in &install.labels {
            arguments.extend(["--labels".into(), label.into()]);
        }
        if let Some(post) = &install.post_renderer {
            arguments.push("--post-renderer".into());
            // helm 3 takes a path and helm 4 a plugin's name; the arguments are given alike.
            let verb = if self.has_plugins() {
                arguments.push(post.plugin.as_str().into());
                &[][..]
            } else {
                arguments.push(absolute_path(&post.program)?.into());
                post.verb.as_slice()
            };
            for argument in verb.iter().chain(&post.arguments) {
                arguments.push(format!("--post-renderer-args={argument}").into());
            }
        }
        Ok(arguments)
    }

    /// Runs a command that prints the new revision as JSON.
    fn run_for_revision(
        &self,
        release: &ReleaseSpec,
        mut arguments: Vec<OsString>,
        most: Duration,
        post: Option<&PostRenderer>,
        stop: &HelmStop,
    ) -> Result<ReleaseRevision> {
        arguments.extend(["--".into(), release.name.as_str().into()]);
        arguments.push(absolute_path(&release.chart)?.into());
        let said = self.run_helm(&release.name, arguments, most, post, stop)?;
        ReleaseRevision::parse(&format!("the output of helm for release {}", release.name), &said)
    }

    /// The options for the cluster and the namespace.
    fn cluster_options(&self, namespace: &str) -> Vec<OsString> {
        let mut options: Vec<OsString> = vec!["--namespace".into(), namespace.into()];
        if let Some(file) = &self.kubeconfig {
            options.extend(["--kubeconfig".into(), file.into()]);
        }
        if let Some(context) = &self.context {
            options.extend(["--kube-context".into(), context.into()]);
        }
        options
    }

    /// Runs helm and returns its output; [`Error::Helm`] has the last message on its stderr.
    fn run_helm(
        &self,
        what: &str,
        arguments: Vec<OsString>,
        most: Duration,
        post: Option<&PostRenderer>,
        stop: &HelmStop,
    ) -> Result<String> {
        let failed = |message: Cause| Error::Helm { release: what.to_owned(), message };
        let home = ScratchFolder::new("gantry-helm-")?;
        let program = self.binary.path();
        let mut command = match self.tether.split_first() {
            None => process::user_command(program, home.path()),
            Some((tether, first)) => {
                let mut command = process::user_command(Path::new(tether), home.path());
                command.args(first).arg(program);
                command
            }
        };
        if let Some(post) = post {
            command.env("HELM_PLUGINS", &post.plugins);
        }
        command.args(arguments);
        let output = process::run_command(command, most, stop).map_err(failed)?;
        if !output.success {
            let message = output.stderr.trim();
            // Warnings and lines of a post-renderer may precede helm's own error.
            let message = message.rsplit_once("Error: ").map_or(message, |(_, last)| last);
            return Err(failed(message.to_owned().into()));
        }
        if !output.stderr.trim().is_empty() {
            tracing::debug!("helm on release {what}: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

/// The files for a release's `--set` expressions; they have to exist while helm runs.
fn write_set_arguments(release: &ReleaseSpec) -> Result<SetArguments> {
    SetArguments::write(&release.set)
        .map_err(|message| Error::Helm { release: release.name.clone(), message })
}

/// Whether a release's hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPolicy {
    /// They run, for at most this time.
    Run(Duration),
    /// They are skipped.
    Skip,
}

impl HookPolicy {
    /// Adds the option for it to a command line.
    fn add_argument(self, arguments: &mut Vec<OsString>) {
        arguments.push(match self {
            Self::Run(most) => timeout_option(most),
            Self::Skip => "--no-hooks".into(),
        });
    }

    /// How long the whole command may take.
    fn deadline(self) -> Duration {
        match self {
            Self::Run(most) => most + BEYOND,
            Self::Skip => DEADLINE,
        }
    }
}

fn timeout_option(most: Duration) -> OsString {
    format!("--timeout={}s", most.as_secs().max(1)).into()
}

/// An absolute path is never taken for an option or a URL.
fn absolute_path(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|cause| Error::Read { what: path.display().to_string(), cause })
}
