//! `gantry deploy`: installs the releases of gantry.yaml in the site's cluster. Each is prepared by
//! `releases` (images moved, offline use, proof) and installed by the crate `deploy`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use chart::relocate::{Locked, Target};
use clap::builder::BoolishValueParser;
use cluster::Cluster;
use deploy::release::{
    Action, Deployed, Deployer, Foreign, Missing, OnFailure, Options, Outcome, Plan, Planned,
    SiteObjects, Watch as _,
};
use net::Credentials;
use remote::helm;
use remote::scratch::Scratch;
use serde::Serialize;
use types::input::Input;
use types::site::Site;

use crate::clusters::{self, ClusterArgs};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::live::Live;
use crate::offline::Inside;
use crate::releases::{self, Archives, Asked, Moved, Mover, Way};
use crate::{ui, world};

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
pub(crate) struct Args {
    /// The releases to deploy [default: all of gantry.yaml].
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site file (site.yaml): its registry, naming, pull secret, CA and context.
    #[arg(long, value_name = "FILE")]
    site: PathBuf,
    /// Take the charts from these bundle files, folder of bundle files, or store folder.
    #[arg(long, value_name = "BUNDLE", num_args = 1..)]
    from: Vec<PathBuf>,
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
    leftovers: Vec<Way>,
    /// Write configuration files for the nodes into this folder, which make them pull leftovers from the
    /// site's registry; one folder per release.
    #[arg(long, value_name = "DIR")]
    mirrors: Option<PathBuf>,
    /// Deploy even if some containers cannot be configured for offline use.
    #[arg(long)]
    allow_unwired: bool,
    /// How long the hooks of each release may take, and then its pods to become ready (90s, 20m, 1h).
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = releases::duration)]
    timeout: Duration,
    /// If a release does not become ready, roll it back to its previous revision, or uninstall it if there
    /// is none.
    #[arg(long)]
    rollback: bool,
    /// Take over releases that were installed with helm and not by Gantry.
    #[arg(long)]
    take_over: bool,
    /// Print the changes without applying them.
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The result of a deployment.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    context: String,
    server: String,
    releases: Vec<Deployed>,
}

/// The result of a dry run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Planning {
    context: String,
    server: String,
    releases: Vec<Plan>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let (input, lock) = (world::input(context)?, world::lock(context)?);
    let site = world::site(&args.site)?;
    let asked = releases::asked(context, &input, &lock, &args.releases)?;
    let objects = site_objects(args, &site)?;
    let work = Work {
        context,
        args,
        target: Target {
            prefix: site.registry.prefix()?,
            naming: site.registry.naming,
            pull_secret: site.registry.pull_secret.clone(),
        },
        locked: Locked::from(&lock),
        input,
        site,
        objects,
    };
    world::block_on(work.run(&asked))
}

/// What is the same for all releases of one run.
struct Work<'a> {
    context: &'a Context,
    args: &'a Args,
    input: Input,
    site: Site,
    target: Target,
    locked: Locked,
    objects: SiteObjects,
}

impl Work<'_> {
    async fn run(&self, asked: &[Asked]) -> Result<()> {
        let cluster = self.cluster(asked).await?;
        let binary = tokio::task::block_in_place(helm::Binary::locate)?;
        // Starting helm blocks for a moment; `block_in_place` lets other tasks move to another thread.
        let helm = tokio::task::block_in_place(|| releases::helm(&cluster, &self.args.cluster))?;
        let kinds = cluster.kinds().await?;
        let inside = Inside::new(Some(&self.input), &self.target);
        let mover = Mover {
            context: self.context,
            site: &self.site,
            site_file: &self.args.site,
            target: &self.target,
            locked: &self.locked,
            inside: &inside,
            has_plugins: helm.has_plugins(),
            binary,
            kube_version: kube_version(&cluster).await?,
            api_versions: kinds.foreign_versions(),
            ways: &self.args.leftovers,
            unwired: self.args.allow_unwired,
        };
        // All releases are prepared and proven before the first one is installed, so that a refusal
        // leaves the cluster unchanged.
        let archives = self.archives()?;
        let moved = self.moved(asked, &archives, &mover).await?;
        let deployer = Deployer {
            cluster: &cluster,
            kinds: &kinds,
            helm: &helm,
            target: &self.target,
            rules: inside.rules(),
            locked: &self.locked,
            site: &self.objects,
            options: self.options(),
        };
        let planned: Vec<Planned> = moved.iter().map(|one| one.planned.clone()).collect();
        // All rights for all releases at once: a missing one must not be found half way.
        deployer.need_rights(&planned).await?;
        match self.args.dry_run {
            true => self.plan(&deployer, &planned).await,
            false => self.deploy(&deployer, &planned).await,
        }
    }

    async fn cluster(&self, asked: &[Asked]) -> Result<Cluster> {
        let (args, site) = (&self.args.cluster, Some(&self.site));
        if self.args.dry_run {
            return clusters::open(args, site).await;
        }
        let names: Vec<&str> = asked.iter().map(Asked::release).collect();
        let doing = format!("deploy {}", names.join(", "));
        clusters::open_to_write(self.context, args, site, &doing).await
    }

    fn options(&self) -> Options {
        let args = self.args;
        Options {
            timeout: args.timeout,
            on_failure: if args.rollback { OnFailure::RollBack } else { OnFailure::Leave },
            foreign: if args.take_over { Foreign::TakenOver } else { Foreign::Refused },
        }
    }

    /// Opens what the charts come from. Their temporary files are deleted when this is dropped.
    fn archives(&self) -> Result<Archives<'_>> {
        let folder = releases::folder_of(&self.args.site);
        let registry = &self.site.registry;
        let (client, mirrors) =
            self.context.site_registry(registry, folder, credentials(self.args))?;
        let from = match self.args.from.as_slice() {
            [] => None,
            some => Some(world::source(some)?),
        };
        let scratch = Scratch::new("gantry-charts-")?;
        Ok(Archives { from, registry, client, mirrors, scratch })
    }

    /// Prepares all releases, and sorts them in the order of installation.
    async fn moved(
        &self,
        asked: &[Asked],
        archives: &Archives<'_>,
        mover: &Mover<'_>,
    ) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for one in asked {
            self.context.ui.status(&format!(
                "{}: preparing for {}",
                one.release(),
                self.target.prefix
            ));
            let archive = archives.file(self.context, one).await?;
            let done = tokio::task::block_in_place(|| mover.moved(one, &archive))?;
            self.tell(one, &done)?;
            moved.push((one.number, done));
        }
        // Which charts have custom resource definitions is known only now that they are rendered. Those
        // come first, since the API server refuses objects of a kind it does not know.
        let brings =
            |number: usize| moved.iter().any(|(other, done)| *other == number && done.brings_kinds);
        let order = self.input.order(&brings);
        moved.sort_by_key(|(number, _)| order.iter().position(|place| place == number));
        Ok(moved.into_iter().map(|(_, done)| done).collect())
    }

    /// Prints warnings about leftovers of a release, and writes the files for the nodes.
    fn tell(&self, asked: &Asked, moved: &Moved) -> Result<()> {
        let (ui, name) = (&self.context.ui, asked.release());
        for leftover in &moved.report.leftovers {
            ui.warn(&format!(
                "{name}: {} in {}: {}",
                leftover.image, leftover.place, leftover.reason
            ));
        }
        for left in &moved.wiring.leftovers {
            ui.warn(&format!(
                "{name}: not configured for offline use: {}: {}; {}",
                left.place, left.what, left.next
            ));
        }
        if let Some(folder) = &self.args.mirrors
            && !self.args.dry_run
        {
            for remedy in &moved.report.remedies {
                let file = folder.join(name).join(&remedy.file);
                world::write_deep(&file, &remedy.text)?;
                ui.status(&format!(
                    "{} written: copy it to {} on each node ({})",
                    file.display(),
                    remedy.path,
                    remedy.reader
                ));
            }
        }
        Ok(())
    }

    async fn plan(&self, deployer: &Deployer<'_>, planned: &[Planned]) -> Result<()> {
        let mut releases = Vec::new();
        for one in planned {
            releases.push(deployer.plan(one).await?);
        }
        let cluster = deployer.cluster;
        let planning = Planning {
            context: cluster.context().to_owned(),
            server: cluster.server().to_owned(),
            releases,
        };
        self.context.ui.result(&planning, show_plan)
    }

    async fn deploy(&self, deployer: &Deployer<'_>, planned: &[Planned]) -> Result<()> {
        let mut releases: Vec<Deployed> = Vec::new();
        for one in planned {
            let live = Live::new(&self.context.ui);
            let done = deployer.deploy(one, &live).await;
            live.end();
            match done {
                Ok(done) => {
                    live.note(&told(&done));
                    releases.push(done);
                }
                // Later releases may need this one, so the first failure ends the run.
                Err(error) => return Err(self.hinted(error, one, &releases)),
            }
        }
        let cluster = deployer.cluster;
        let summary = Summary {
            context: cluster.context().to_owned(),
            server: cluster.server().to_owned(),
            releases,
        };
        self.context.ui.result(&summary, show)
    }

    /// Adds hints for what to do about a release that failed.
    fn hinted(
        &self,
        error: deploy::release::Error,
        planned: &Planned,
        done: &[Deployed],
    ) -> CommandError {
        let is_not_ready = matches!(error, deploy::release::Error::NotReady { .. });
        let mut error = CommandError::from(error);
        if is_not_ready && !self.args.rollback {
            error = error.hint(format!(
                "the release is left as it is; run the same command again to continue, or remove it with: gantry undeploy --site {} {}",
                self.args.site.display(),
                planned.name()
            ));
        }
        if !done.is_empty() {
            let names: Vec<&str> = done.iter().map(|one| one.release.as_str()).collect();
            error = error.hint(format!("ready so far: {}", names.join(", ")));
        }
        error
    }
}

/// Reads what the namespaces need from the site: pull secret, CA, Pod Security level.
fn site_objects(args: &Args, site: &Site) -> Result<SiteObjects> {
    let registry = &site.registry;
    let pull_secret = releases::pull_secret(site, &credentials(args))?;
    let ca = match &registry.ca {
        None => None,
        Some(file) => {
            let file = releases::folder_of(&args.site).join(file);
            let text = std::fs::read_to_string(&file).map_err(|cause| {
                CommandError::usage(format!("registry.ca: cannot read {}: {cause}", file.display()))
            })?;
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                return Err(CommandError::usage(format!(
                    "registry.ca: {} is not a PEM file with a certificate",
                    file.display()
                )));
            }
            Some(text)
        }
    };
    let missing = if args.create_namespace { Missing::Made } else { Missing::Refused };
    Ok(SiteObjects { pull_secret, ca, pod_security: args.pod_security.clone(), missing })
}

fn credentials(args: &Args) -> Credentials {
    args.registry_auth.as_deref().map_or_else(Credentials::system, Credentials::in_file)
}

/// The cluster's version as helm's `--kube-version` accepts it, without suffixes (`v1.33.4+k3s1`).
async fn kube_version(cluster: &Cluster) -> Result<String> {
    let version = cluster.version().await?.git_version;
    let version = version.trim_start_matches('v');
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    Ok(version[..end].to_owned())
}

fn told(done: &Deployed) -> String {
    let what = match done.action {
        Action::None => "no change".to_owned(),
        action => format!("{}, objects changed: {}", word(action), done.changed),
    };
    format!("{} is ready in {}: revision {} ({what})", done.release, done.namespace, done.revision)
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Install => "install",
        Action::Upgrade => "upgrade",
        Action::None => "no change",
        Action::Mend => "repair, then install",
    }
}

fn show(summary: &Summary) -> String {
    let rows = summary.releases.iter().map(|one| {
        [
            one.release.clone(),
            one.namespace.clone(),
            one.chart.clone(),
            word(one.action).to_owned(),
            one.revision.to_string(),
        ]
    });
    let mut text =
        ui::table(["release", "namespace", "chart", "action", "revision"], rows.collect());
    for one in summary.releases.iter().flat_map(|one| &one.beside) {
        if one.object.starts_with("ServiceAccount") && one.outcome != Outcome::Same {
            let _ = writeln!(
                text,
                "{} now has the pull secret, since no chart value sets it",
                one.object
            );
        }
    }
    text
}

fn show_plan(planning: &Planning) -> String {
    let mut text = String::new();
    for plan in &planning.releases {
        let Plan { release, namespace, chart, action, beside, changes, notes } = plan;
        let _ = writeln!(text, "{release} in {namespace} ({chart}): {}", word(*action));
        for one in beside.iter().filter(|one| one.outcome != Outcome::Same) {
            let word = match one.outcome {
                Outcome::Created => "+",
                Outcome::Changed => "~",
                Outcome::Same | Outcome::Kept => "=",
            };
            let _ = writeln!(text, "  {word} {}", one.object);
        }
        for one in changes {
            let sign = match one.change {
                deploy::release::Change::Created => "+",
                deploy::release::Change::Changed => "~",
                deploy::release::Change::Removed => "-",
            };
            let _ = writeln!(text, "  {sign} {}", one.object);
            for line in one.diff.lines() {
                let _ = writeln!(text, "      {line}");
            }
        }
        for note in notes {
            let _ = writeln!(text, "  note: {note}");
        }
    }
    text
}
