//! `gantry deploy`: installs the releases of gantry.yaml in the site's cluster. The crate `deploy` does
//! the work: `prepare` moves, wires and proves each release, `release` installs it.

mod deployment;
mod results;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chart::relocate::{PullPolicy, RelocationTarget};
use clap::builder::BoolishValueParser;
use cluster::{Cluster, FieldConflicts};
use deploy::prepare::{
    ChartArchives, ClusterFacts, InstallableRelease, LeftoverWorkaround, ManifestPreparer,
    OfflineRules, ReleasePreparer, SelectedManifests, SelectedRelease, UnwiredPolicy,
    sort_by_install_order,
};
use deploy::release::{
    DeployOptions, DeployedRelease, Deployer, DriftPolicy, ForeignReleases, ManifestDeployer,
    MissingNamespace, OnFailure, ProgressWatcher as _, SiteNamespaceObjects, SiteObjects,
    WatchedModels,
};
use net::Credentials;
use remote::helm::{HelmBinary, HelmClient};
use remote::scratch::ScratchFolder;
use resolve::FileComparison;
use types::ImagePin;
use types::input::Input;
use types::lock::Lock;
use types::site::{Site, site_folder};
use types::site_content::SiteContent;

use crate::clusters::{self, ClusterArgs};
use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::live_view::ReleaseProgressView;
use crate::output_files::{OutputKind, OverwriteArgs};
use crate::site_digests::{KnownSite, SiteReceiptArgs};
use crate::site_releases::{self, AskedReleases, WorkaroundOption};
use crate::value_parsers::{SECOND, WEEK, duration_within};

use self::deployment::Deployment;
use self::results::describe_deployment;

pub(super) use self::results::{DeployPreview, DeploySummary, format_preview, format_summary};

/// Deploy the releases of gantry.yaml to the site's cluster, and wait until they are ready.
///
/// Releases are deployed in the order of their dependencies (`needs:`; charts with custom resource
/// definitions come first). For each release, Gantry moves its images to the site's registry with an
/// overlay and proves that, configures its runtimes for offline use, creates the pull secret and the
/// site's CA in its namespace, and lets helm install or upgrade it. While it waits, it shows what is
/// pending, with the reason and the next step. Running it again with the same input changes nothing.
///
/// Charts are taken from the site's registry (where `gantry load` pushed them), from bundle files or a
/// store (--from), or from the local path in gantry.yaml. Ctrl-C leaves a release as it is, and the same
/// command continues. A release that an interrupted run left half installed is repaired first.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry deploy --site site.yaml                       # all releases of gantry.yaml
  gantry deploy --site site.yaml web --dry-run         # show the changes as a diff
  gantry deploy --site site.yaml --from /media/disk    # charts directly from the bundle files
  gantry deploy --site site.yaml --timeout 20m --rollback
  gantry deploy --site site.yaml --registry-auth pull.json --pod-security restricted
  gantry deploy --site site.yaml --leftovers post-render

Exit codes: 0 ready, 1 not ready (the reasons are printed), 2 bad input or usage (nothing was
changed), 3 an image would come from outside, 4 stopped (run the same command again to resume).")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct DeployArgs {
    /// The releases to deploy [default: all of gantry.yaml].
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site file (site.yaml): its registry, naming, pull secret, CA and context.
    #[arg(long, value_name = "FILE")]
    pub(super) site: PathBuf,
    /// Take the charts from these bundle files, folder of bundle files, or store folder.
    #[arg(long, value_name = "BUNDLE", num_args = 1..)]
    from: Vec<PathBuf>,
    #[command(flatten)]
    receipts: SiteReceiptArgs,
    /// A docker config.json with the credential for the pull secret [default: those of docker and
    /// podman].
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// Create namespaces that do not exist: true or false.
    #[arg(long, value_name = "BOOL", default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    create_namespace: bool,
    /// Label the namespaces to enforce this Pod Security level: privileged, baseline or restricted.
    #[arg(long, value_name = "LEVEL", value_parser = ["privileged", "baseline", "restricted"])]
    pod_security: Option<String>,
    /// A workaround to use for images that no chart value moves to the site; may be given several times.
    #[arg(long, value_name = "WORKAROUND")]
    leftovers: Vec<WorkaroundOption>,
    /// Write configuration files for the nodes into this folder, which make them pull leftovers from the
    /// site's registry; one folder per release.
    #[arg(long, value_name = "DIR")]
    mirrors: Option<PathBuf>,
    #[command(flatten)]
    overwrite: OverwriteArgs,
    /// Make the pods of a tag with new content restart: auto, digest, annotation or none [default: pin: of
    /// gantry.yaml, that of site.yaml, else auto].
    #[arg(long, value_name = "PIN")]
    pin: Option<ImagePin>,
    /// Set this pull policy for every image, where a value controls it: Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// Deploy even if some containers cannot be configured for offline use.
    #[arg(long, alias = "allow-unwired")]
    allow_online: bool,
    /// How long the hooks of each release may take, and then its pods to become ready (90s, 20m, 1h).
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration_within(SECOND..=WEEK))]
    timeout: Duration,
    /// If a release does not become ready, roll it back to its previous revision, or uninstall it if there
    /// is none.
    #[arg(long)]
    rollback: bool,
    /// Take over releases that were installed with helm and not by Gantry.
    #[arg(long)]
    take_over: bool,
    /// Keep what others changed in the releases' objects since they were deployed (`kubectl set image`,
    /// `kubectl edit`), instead of putting it back. An upgrade of a chart still sets what the chart sets.
    #[arg(long)]
    adopt_drift: bool,
    /// Take fields of plain manifests from controllers that own them. What a person changed is put back
    /// anyway.
    #[arg(long)]
    force_conflicts: bool,
    /// Print the changes without applying them.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn run(context: &CommandContext, args: &DeployArgs) -> Result<()> {
    let (input, lock) = (environment::read_input(context)?, environment::read_lock(context)?);
    // A site may change values: the proof below says whether every image is still a locked one.
    environment::require_current_lock(context, &input, &lock, FileComparison::Nothing)?;
    let site = environment::read_site(&args.site)?;
    let asked = AskedReleases::select(context, &input, &lock, &args.releases)?;
    let objects = read_site_objects(args, &site)?;
    let namespaces = match &site.namespaces {
        Some(_) => Some(SiteNamespaceObjects::of_site(&site, objects.clone())?),
        None => None,
    };
    // An index may be another one at the site than at its source, which the overlays have to know.
    let mut known = KnownSite::new(lock.clone(), &site.registry, Some(&args.site), &args.receipts)?;
    known.ask_registry(context, |_| true)?;
    let facts = ScratchFolder::new("gantry-receipts-")?;
    let receipts = known.write_receipts(facts.path())?;
    let work = DeployRun {
        context,
        args,
        target: RelocationTarget::from_registry(&site.registry)?,
        locked: known.content().clone(),
        input,
        lock,
        site,
        objects,
        receipts,
        namespaces,
    };
    environment::block_on(work.run(&asked))
}

/// What is the same for all releases of one run.
struct DeployRun<'a> {
    context: &'a CommandContext,
    args: &'a DeployArgs,
    input: Input,
    lock: Lock,
    site: Site,
    target: RelocationTarget,
    locked: SiteContent,
    objects: SiteObjects,
    /// What is known of the digests at the site, for the post-renderer.
    receipts: Vec<PathBuf>,
    /// What the namespaces of site.yaml get, if it names some.
    namespaces: Option<SiteNamespaceObjects>,
}

impl DeployRun<'_> {
    async fn run(&self, asked: &AskedReleases) -> Result<()> {
        let cluster = self.open_cluster(asked).await?;
        // Manifests alone are deployed without helm.
        let helm = match asked.charts.is_empty() {
            true => None,
            false => Some(self.open_helm(&cluster)?),
        };
        let kinds = cluster.discover_kinds().await?;
        let rules = OfflineRules::new(Some(&self.input), &self.target);
        // All releases are prepared and proven before the first one is installed, so that a refusal
        // leaves the cluster unchanged.
        let asked = asked.for_cluster(&cluster);
        let archives = self.open_archives()?;
        let mut prepared = Vec::new();
        if let Some((binary, helm)) = &helm {
            let facts = ClusterFacts::read(&cluster, &kinds).await?;
            let programs = (binary.clone(), helm.has_plugins());
            prepared =
                self.prepare_charts(&asked.charts, &rules, &archives, programs, facts).await?;
        }
        prepared.extend(self.prepare_manifests(&asked.manifests, &rules, &archives).await?);
        sort_by_install_order(&self.input, &mut prepared);
        let models = WatchedModels::list_of_site(&self.site, &self.lock);
        let charts = helm.as_ref().map(|(_, helm)| Deployer {
            cluster: &cluster,
            kinds: &kinds,
            helm,
            target: &self.target,
            rules: rules.rules(),
            locked: &self.locked,
            site: &self.objects,
            models: &models,
            options: self.options(),
        });
        let manifests = ManifestDeployer {
            cluster: &cluster,
            kinds: &kinds,
            target: &self.target,
            site: &self.objects,
            options: self.options(),
        };
        let deployments: Vec<Deployment<'_>> = prepared
            .iter()
            .filter_map(|one| {
                Some(match one {
                    InstallableRelease::Chart(one) => {
                        Deployment::Chart(charts.as_ref()?, &one.planned)
                    }
                    InstallableRelease::Manifests(one) => {
                        Deployment::Manifests(&manifests, &one.planned)
                    }
                })
            })
            .collect();
        // The rights for all releases first: a missing one must not be found half way.
        for one in &deployments {
            one.require_rights().await?;
        }
        match self.args.dry_run {
            true => self.preview_releases(&cluster, &deployments).await,
            false => self.deploy_releases(&cluster, &deployments).await,
        }
    }

    /// Finds helm. Starting it blocks for a moment; `block_in_place` lets other tasks move to another
    /// thread.
    fn open_helm(&self, cluster: &Cluster) -> Result<(HelmBinary, HelmClient)> {
        let binary = tokio::task::block_in_place(HelmBinary::locate)?;
        let open = || clusters::open_helm(cluster, &self.args.cluster);
        Ok((binary, tokio::task::block_in_place(open)?))
    }

    async fn open_cluster(&self, asked: &AskedReleases) -> Result<Cluster> {
        let (args, site) = (&self.args.cluster, Some(&self.site));
        if self.args.dry_run {
            return clusters::open_cluster(args, site).await;
        }
        let doing = format!("deploy {}", asked.names().join(", "));
        clusters::open_cluster_to_write(self.context, args, site, &doing).await
    }

    fn options(&self) -> DeployOptions {
        let args = self.args;
        DeployOptions {
            timeout: args.timeout,
            on_failure: if args.rollback { OnFailure::RollBack } else { OnFailure::Leave },
            foreign: if args.take_over {
                ForeignReleases::TakeOver
            } else {
                ForeignReleases::Refuse
            },
            conflicts: match args.force_conflicts {
                true => FieldConflicts::TakeOver,
                false => FieldConflicts::Refuse,
            },
            drift: if args.adopt_drift { DriftPolicy::Adopt } else { DriftPolicy::PutBack },
        }
    }

    fn open_archives(&self) -> Result<ChartArchives<'_>> {
        let site = (&self.site, self.args.site.as_path());
        let credentials = choose_credentials(self.args);
        site_releases::open_chart_archives(self.context, site, &self.args.from, credentials)
    }

    async fn prepare_charts(
        &self,
        asked: &[SelectedRelease],
        rules: &OfflineRules,
        archives: &ChartArchives<'_>,
        (binary, has_plugins): (HelmBinary, bool),
        facts: ClusterFacts,
    ) -> Result<Vec<InstallableRelease>> {
        let workarounds = self.list_workarounds();
        let preparer = ReleasePreparer {
            site: &self.site,
            target: &self.target,
            locked: &self.locked,
            rules,
            archives,
            binary,
            has_plugins,
            facts,
            post_render: site_releases::build_post_render_command(
                self.context,
                &self.args.site,
                &self.receipts,
            )?,
            workarounds: &workarounds,
            unwired: self.choose_unwired_policy(),
            pin: self.args.pin,
            pull_policy: self.args.pull_policy,
        };
        let mut all = Vec::new();
        for one in asked {
            self.report_preparation(one.name());
            let prepared = preparer.prepare_release(one).await?;
            all.push(InstallableRelease::Chart(Box::new(prepared)));
            self.report_leftovers(one.name(), all.last())?;
        }
        Ok(all)
    }

    async fn prepare_manifests(
        &self,
        asked: &[SelectedManifests],
        rules: &OfflineRules,
        archives: &ChartArchives<'_>,
    ) -> Result<Vec<InstallableRelease>> {
        let workarounds = self.list_workarounds();
        let preparer = ManifestPreparer {
            site: &self.site,
            target: &self.target,
            locked: &self.locked,
            rules,
            archives,
            workarounds: &workarounds,
            unwired: self.choose_unwired_policy(),
            pin: self.args.pin,
        };
        let mut all = Vec::new();
        for one in asked {
            self.report_preparation(one.name());
            let prepared = preparer.prepare_manifests(one).await?;
            all.push(InstallableRelease::Manifests(Box::new(prepared)));
            self.report_leftovers(one.name(), all.last())?;
        }
        Ok(all)
    }

    fn report_preparation(&self, name: &str) {
        self.context.ui.print_status(&format!("{name}: preparing for {}", self.target.prefix));
    }

    fn list_workarounds(&self) -> Vec<LeftoverWorkaround> {
        self.args.leftovers.iter().copied().map(Into::into).collect()
    }

    fn choose_unwired_policy(&self) -> UnwiredPolicy {
        match self.args.allow_online {
            true => UnwiredPolicy::Deploy,
            false => UnwiredPolicy::Refuse,
        }
    }

    /// Prints warnings about leftovers of a release, and writes the files for the nodes.
    fn report_leftovers(&self, name: &str, prepared: Option<&InstallableRelease>) -> Result<()> {
        let Some(prepared) = prepared else { return Ok(()) };
        let ui = &self.context.ui;
        let named = BTreeSet::new();
        let unpinned = match prepared {
            InstallableRelease::Chart(chart) => &chart.unpinned,
            InstallableRelease::Manifests(_) => &named,
        };
        let (report, wiring) = (prepared.report(), prepared.wiring());
        site_releases::warn_about_leftovers(self.context, name, report, wiring, unpinned);
        if let Some(folder) = &self.args.mirrors
            && !self.args.dry_run
        {
            for remedy in &prepared.report().remedies {
                let file = folder.join(name).join(&remedy.file);
                self.args
                    .overwrite
                    .check_file_in_new_folder(&file, OutputKind::NodeConfiguration)?;
                environment::write_file_with_folders(&file, &remedy.text)?;
                ui.print_status(&format!(
                    "{} written: copy it to {} on each node ({})",
                    file.display(),
                    remedy.path,
                    remedy.reader
                ));
            }
        }
        Ok(())
    }

    async fn preview_releases(
        &self,
        cluster: &Cluster,
        deployments: &[Deployment<'_>],
    ) -> Result<()> {
        let mut releases = Vec::new();
        for one in deployments {
            releases.push(one.plan().await?);
        }
        let planning = DeployPreview {
            context: cluster.context().to_owned(),
            server: cluster.server().to_owned(),
            releases,
            namespace_objects: match &self.namespaces {
                Some(namespaces) => namespaces.plan(cluster).await?,
                None => vec![],
            },
        };
        self.context.ui.print_result(&planning, format_preview)
    }

    async fn deploy_releases(
        &self,
        cluster: &Cluster,
        deployments: &[Deployment<'_>],
    ) -> Result<()> {
        // Before the releases: one of them may be an operator that starts pods there at once.
        let namespace_objects = match &self.namespaces {
            Some(namespaces) => namespaces.prepare(cluster).await?,
            None => vec![],
        };
        let mut releases: Vec<DeployedRelease> = Vec::new();
        for one in deployments {
            let live = ReleaseProgressView::new(&self.context.ui);
            let done = one.deploy(&live).await;
            live.finish();
            match done {
                Ok(done) => {
                    live.note(&describe_deployment(&done));
                    releases.push(done);
                }
                // Later releases may need this one, so the first failure ends the run.
                Err(error) => return Err(self.add_failure_hints(error, one.name(), &releases)),
            }
        }
        let summary = DeploySummary {
            context: cluster.context().to_owned(),
            server: cluster.server().to_owned(),
            releases,
            namespace_objects,
        };
        self.context.ui.print_result(&summary, format_summary)
    }

    /// Adds hints for what to do about a release that failed.
    fn add_failure_hints(
        &self,
        error: deploy::Error,
        name: &str,
        done: &[DeployedRelease],
    ) -> CommandError {
        let is_not_ready = matches!(error, deploy::Error::NotReady { .. });
        let mut error = CommandError::from(error);
        if is_not_ready && !self.args.rollback {
            error = error.with_hint(format!(
                "the release is left as it is; run the same command again to continue, or remove it with: gantry undeploy --site {} {}",
                self.args.site.display(),
                name
            ));
        }
        if !done.is_empty() {
            let names: Vec<&str> = done.iter().map(|one| one.release.as_str()).collect();
            error = error.with_hint(format!("ready so far: {}", names.join(", ")));
        }
        error
    }
}

/// Reads what the namespaces need: pull secret and CA of the site, and what the arguments say.
fn read_site_objects(args: &DeployArgs, site: &Site) -> Result<SiteObjects> {
    let folder = site_folder(&args.site);
    let missing =
        if args.create_namespace { MissingNamespace::Create } else { MissingNamespace::Refuse };
    Ok(SiteObjects {
        pod_security: args.pod_security.clone(),
        missing,
        ..SiteObjects::of_site(site, folder, &choose_credentials(args))?
    })
}

fn choose_credentials(args: &DeployArgs) -> Credentials {
    args.registry_auth.as_deref().map_or_else(Credentials::from_system, Credentials::from_file)
}
