//! `gantry render`: writes what `gantry deploy` would install as files, for a repository that Argo CD or
//! Flux follows. The crate `deploy` does the work: `prepare` moves, wires and proves each release, `render`
//! makes files of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chart::relocate::{PullPolicy, RelocationTarget};
use deploy::prepare::{
    ClusterFacts, ManifestPreparer, OfflineRules, ReleasePreparer, UnwiredPolicy,
};
use deploy::render::{FolderChanges, HookManifests, RenderFolder, RenderScope, RenderedRelease};
use net::Credentials;
use remote::helm::HelmBinary;
use resolve::FileComparison;
use serde::Serialize;
use types::ImagePin;
use types::input::Input;
use types::site::Site;
use types::site_content::SiteContent;

use super::render_namespace::{self, RenderCommand};
use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::output_files::{self, OutputKind, OverwriteArgs};
use crate::site_digests::{KnownSite, SiteReceiptArgs};
use crate::site_releases::{self, AskedReleases, WorkaroundOption};
use crate::{environment, ui};

/// Write the manifests of the releases of gantry.yaml as files, for a Git repository that Argo CD or Flux
/// follows.
///
/// Writes what gantry deploy would install: each release moved to the site's registry, configured for
/// offline use, and proven; one object a file, NAMESPACE/RELEASE/KIND_NAME.yaml, definitions of custom
/// resources in crds/ and hooks in hooks/. The same input gives the same bytes. A password that a chart
/// makes up in each render stays as the last run wrote it. Files of an earlier run that are no longer
/// needed are removed; files that Gantry did not write are never touched.
///
/// No cluster is asked. The namespace, its pull secret and the site's CA are not among the files: gantry
/// render namespace writes them.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:
  gantry render --site site.yaml -o rendered                # all releases of gantry.yaml
  gantry render --site site.yaml web -o rendered            # one of them; the others' files stay
  gantry render --site site.yaml -o rendered --secrets ../plain-secrets --without-hooks
  gantry render --site site.yaml -o rendered --check        # in CI: fails if it is stale
  kubectl apply --recursive -f rendered

Exit codes: 0 written, 1 out of date (--check), 2 bad input or usage (nothing was changed), 3 an image
would come from outside."
)]
pub(crate) struct RenderArgs {
    #[command(subcommand)]
    part: Option<RenderCommand>,
    #[command(flatten)]
    releases: RenderReleasesArgs,
}

impl RenderArgs {
    /// The site file, to be found from `-C`.
    pub(super) fn site_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.part {
            Some(part) => Some(part.site_mut()),
            None => self.releases.site.as_mut(),
        }
    }
}

/// The options of releases.
#[derive(clap::Args)]
pub(crate) struct RenderReleasesArgs {
    /// The releases to write [default: all of gantry.yaml].
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site file (site.yaml): its registry, naming and pull secret.
    #[arg(long, value_name = "FILE", required = true)]
    site: Option<PathBuf>,
    /// The folder to write to.
    #[arg(short = 'o', long = "out", value_name = "DIR", required = true)]
    out: Option<PathBuf>,
    /// Write Secrets into this folder instead, readable by you alone, to encrypt them with SOPS or
    /// kubeseal before they are committed.
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// Leave out helm's hooks. Argo CD runs them; Flux and kubectl apply them like all other objects.
    #[arg(long)]
    without_hooks: bool,
    /// The namespace of releases that have none in gantry.yaml.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The Kubernetes version to render for [default: that of gantry.yaml, else 1.33.0].
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// An API version of the cluster beside the built-in ones, such as monitoring.coreos.com/v1; may be
    /// given several times.
    #[arg(long, value_name = "VERSION")]
    api_versions: Vec<String>,
    /// Take the charts from these bundle files, folder of bundle files, or store folder.
    #[arg(long, value_name = "BUNDLE", num_args = 1..)]
    from: Vec<PathBuf>,
    #[command(flatten)]
    receipts: SiteReceiptArgs,
    /// A workaround to use for images that no chart value moves to the site; may be given several times.
    #[arg(long, value_name = "WORKAROUND")]
    leftovers: Vec<WorkaroundOption>,
    /// Write releases even if some containers cannot be configured for offline use.
    #[arg(long)]
    allow_online: bool,
    /// Make the pods of a tag with new content restart: auto, digest, annotation or none [default: pin: of
    /// gantry.yaml, that of site.yaml, else auto].
    #[arg(long, value_name = "PIN")]
    pin: Option<ImagePin>,
    /// Set this pull policy for every image, where a value controls it: Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// Write nothing; fail if the folder is out of date.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    overwrite: OverwriteArgs,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenderSummary {
    folder: String,
    releases: Vec<RenderedReleaseSummary>,
    /// The files that are new or were changed.
    #[serde(rename = "writtenFiles")]
    written: Vec<String>,
    /// The files of an earlier run that are no longer needed.
    #[serde(rename = "removedFiles")]
    removed: Vec<String>,
    /// How many files were as they should be.
    #[serde(rename = "unchangedCount")]
    unchanged: usize,
}

/// One release in the result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RenderedReleaseSummary {
    release: String,
    namespace: String,
    chart: String,
    /// How many objects it has.
    #[serde(rename = "objectCount")]
    objects: usize,
    /// The hooks among them.
    hooks: Vec<String>,
    /// The hooks that were left out: all with --without-hooks, else those of tests, rollback and removal.
    #[serde(rename = "leftOutHooks")]
    left_out: Vec<String>,
    /// The objects of which the chart makes up a part anew in each render.
    generated: Vec<String>,
    /// The Secrets that stand in plain text among the other files.
    plain_secrets: Vec<String>,
    /// Service accounts of its pods that are not part of it, and need the pull secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts_without_secret: Vec<String>,
}

/// Runs `gantry render`, for releases or for what namespaces get.
pub(super) fn run_command(context: &CommandContext, args: &RenderArgs) -> Result<()> {
    match &args.part {
        Some(part) => render_namespace::run_command(context, part),
        None => run(context, &args.releases),
    }
}

impl RenderReleasesArgs {
    /// The site file and the folder to write to. clap requires both, unless there is a subcommand.
    fn require_paths(&self) -> Result<(&Path, &Path)> {
        match (&self.site, &self.out) {
            (Some(site), Some(out)) => Ok((site, out)),
            _ => Err(CommandError::usage_error("name the site and the folder")
                .with_hint("gantry render --site site.yaml -o rendered")),
        }
    }
}

/// Runs `gantry render` for releases.
fn run(context: &CommandContext, args: &RenderReleasesArgs) -> Result<()> {
    let (site_file, out) = args.require_paths()?;
    let (input, lock) = (environment::read_input(context)?, environment::read_lock(context)?);
    // A site may change values: the proof says whether every image is still a locked one.
    environment::require_current_lock(context, &input, &lock, FileComparison::Nothing)?;
    let site = environment::read_site(site_file)?;
    let asked = AskedReleases::select(context, &input, &lock, &args.releases)?;
    let asked = name_namespaces(asked, args.namespace.as_deref())?;
    for folder in std::iter::once(out).chain(args.secrets.as_deref()) {
        output_files::check_folder(folder)?;
    }
    let mut known = KnownSite::new(lock, &site.registry, Some(site_file), &args.receipts)?;
    known.ask_registry(context, |_| true)?;
    let rendered = environment::block_on(render_releases(
        context,
        args,
        (&input, &site, known.content()),
        site_file,
        &asked,
    ))?;
    let folder =
        RenderFolder { output: out, secrets: args.secrets.as_deref(), bundle: &input.name };
    let scope = if args.releases.is_empty() { RenderScope::All } else { RenderScope::Named };
    let changes = folder.find_changes(&rendered, scope)?;
    if !args.check {
        write_changes(args, folder, &changes)?;
    }
    let summary = summarize(args, out, &rendered, &changes);
    warn_about_secrets(context, &summary);
    context.ui.print_result(&summary, format_summary)?;
    match args.check && !changes.is_empty() {
        true => {
            Err(CommandError::new(ErrorKind::Failed, format!("{} is out of date", out.display()))
                .with_hint("run the same command without --check, and commit what it changes"))
        }
        false => Ok(()),
    }
}

/// The releases with their namespaces. Without a cluster there is none that could stand in for one.
fn name_namespaces(mut asked: AskedReleases, named: Option<&str>) -> Result<AskedReleases> {
    for chart in &mut asked.charts {
        let name = chart.name().to_owned();
        chart.chart.namespace = choose_namespace(&name, chart.chart.namespace.take(), named)?;
    }
    for set in &mut asked.manifests {
        let name = set.name().to_owned();
        set.set.namespace = choose_namespace(&name, set.set.namespace.take(), named)?;
    }
    Ok(asked)
}

/// The namespace of a release: that of gantry.yaml, else the one on the command line.
fn choose_namespace(
    release: &str,
    own: Option<String>,
    named: Option<&str>,
) -> Result<Option<String>> {
    match own.or_else(|| named.map(str::to_owned)) {
        Some(namespace) => Ok(Some(namespace)),
        None => Err(CommandError::usage_error(format!("release {release} has no namespace"))
            .with_hint("add `namespace:` to it in gantry.yaml, or give --namespace NAMESPACE")),
    }
}

async fn render_releases(
    context: &CommandContext,
    args: &RenderReleasesArgs,
    (input, site, locked): (&Input, &Site, &SiteContent),
    site_file: &Path,
    asked: &AskedReleases,
) -> Result<Vec<RenderedRelease>> {
    let target = RelocationTarget::from_registry(&site.registry)?;
    let rules = OfflineRules::new(Some(input), &target);
    let credentials = Credentials::from_system();
    let archives =
        site_releases::open_chart_archives(context, (site, site_file), &args.from, credentials)?;
    let workarounds: Vec<_> = args.leftovers.iter().copied().map(Into::into).collect();
    let unwired = match args.allow_online {
        true => UnwiredPolicy::Deploy,
        false => UnwiredPolicy::Refuse,
    };
    let preparer = ReleasePreparer {
        site,
        target: &target,
        locked,
        rules: &rules,
        archives: &archives,
        binary: tokio::task::block_in_place(HelmBinary::locate)?,
        // Gantry moves all objects by itself here, hooks too, as helm 4 would let it.
        has_plugins: true,
        facts: ClusterFacts {
            kube_version: args.kube_version.clone(),
            api_versions: args.api_versions.clone(),
        },
        post_render: site_releases::build_post_render_command(context, site_file, &[])?,
        workarounds: &workarounds,
        unwired,
        pin: args.pin,
        pull_policy: args.pull_policy,
    };
    let hooks = if args.without_hooks { HookManifests::LeftOut } else { HookManifests::Written };
    let mut rendered = Vec::new();
    for one in &asked.charts {
        let name = one.name();
        context.ui.print_status(&format!("{name}: preparing for {}", target.prefix));
        let prepared = preparer.prepare_release(one).await?;
        let (report, wiring) = (&prepared.report, &prepared.wiring);
        site_releases::warn_about_leftovers(context, name, report, wiring, &prepared.unpinned);
        rendered.push(preparer.render_release(&prepared, hooks)?);
    }
    let preparer = ManifestPreparer {
        site,
        target: &target,
        locked,
        rules: &rules,
        archives: &archives,
        workarounds: &workarounds,
        unwired,
        pin: args.pin,
    };
    for one in &asked.manifests {
        context.ui.print_status(&format!("{}: preparing for {}", one.name(), target.prefix));
        let prepared = preparer.prepare_manifests(one).await?;
        let (report, wiring) = (&prepared.report, &prepared.wiring);
        let unpinned = BTreeSet::new();
        site_releases::warn_about_leftovers(context, one.name(), report, wiring, &unpinned);
        let namespace = one.set.namespace.as_deref().unwrap_or_default();
        rendered.push(preparer.render_manifests(&prepared, namespace)?);
    }
    Ok(rendered)
}

/// Writes and removes files. All paths are checked before the first one is changed.
fn write_changes(
    args: &RenderReleasesArgs,
    folder: RenderFolder<'_>,
    changes: &FolderChanges,
) -> Result<()> {
    for file in &changes.written {
        args.overwrite.check_file_in_new_folder(&file.path, OutputKind::Manifests)?;
    }
    for file in &changes.written {
        match file.is_private {
            true => environment::write_private_file_with_folders(&file.path, &file.text)?,
            false => environment::write_file_with_folders(&file.path, &file.text)?,
        }
    }
    Ok(folder.remove_files(&changes.removed)?)
}

fn summarize(
    args: &RenderReleasesArgs,
    out: &Path,
    rendered: &[RenderedRelease],
    changes: &FolderChanges,
) -> RenderSummary {
    let show = |path: &Path| path.display().to_string();
    RenderSummary {
        folder: show(out),
        releases: rendered.iter().map(|one| summarize_release(args, one)).collect(),
        written: changes.written.iter().map(|file| show(&file.path)).collect(),
        removed: changes.removed.iter().map(|path| show(path)).collect(),
        unchanged: changes.unchanged,
    }
}

fn summarize_release(
    args: &RenderReleasesArgs,
    rendered: &RenderedRelease,
) -> RenderedReleaseSummary {
    let list = |is_listed: &dyn Fn(&deploy::render::ObjectFile) -> bool| -> Vec<String> {
        let files = rendered.files.iter().filter(|file| is_listed(file));
        files.map(|file| file.object.to_string()).collect()
    };
    RenderedReleaseSummary {
        release: rendered.release.clone(),
        namespace: rendered.namespace.clone(),
        chart: rendered.chart.clone(),
        objects: rendered.files.len(),
        hooks: list(&|file| file.is_hook()),
        left_out: rendered.left_out.iter().map(ToString::to_string).collect(),
        generated: list(&|file| file.is_generated()),
        plain_secrets: list(&|file| args.secrets.is_none() && file.is_secret()),
        accounts_without_secret: rendered.accounts.clone(),
    }
}

/// Warns about what a repository should not hold as it is.
fn warn_about_secrets(context: &CommandContext, summary: &RenderSummary) {
    let list = |objects: &dyn Fn(&RenderedReleaseSummary) -> &Vec<String>| -> Vec<String> {
        summary.releases.iter().flat_map(|release| objects(release).clone()).collect()
    };
    context.ui.print_grouped_warning(
        "this Secret is written in plain text; write Secrets into a folder of their own with --secrets DIR, \
         and commit them encrypted",
        &list(&|release| &release.plain_secrets),
    );
    context.ui.print_grouped_warning(
        "the pods of this service account pull from the site, and the account is not part of the release: \
         give it the pull secret",
        &list(&|release| &release.accounts_without_secret),
    );
}

fn format_summary(summary: &RenderSummary) -> String {
    let rows = summary.releases.iter().map(|one| {
        [
            one.release.clone(),
            one.namespace.clone(),
            one.chart.clone(),
            one.objects.to_string(),
            one.hooks.len().to_string(),
        ]
    });
    let heads = ["release", "namespace", "chart", "objects", "hooks"];
    let mut text = ui::format_table(heads, rows.collect());
    for (sign, files) in [("+", &summary.written), ("-", &summary.removed)] {
        for file in files {
            let _ = writeln!(text, "{sign} {file}");
        }
    }
    for one in &summary.releases {
        for object in &one.left_out {
            let _ = writeln!(text, "{}: hook left out: {object}", one.release);
        }
        for object in &one.generated {
            let _ = writeln!(
                text,
                "{}: {object} is another one in each render; set its values to decide it",
                one.release
            );
        }
    }
    let _ = writeln!(
        text,
        "{}: {} written, {} removed, {} unchanged",
        summary.folder,
        summary.written.len(),
        summary.removed.len(),
        summary.unchanged
    );
    text
}
