//! `gantry deploy`: the releases of gantry.yaml, moved and proven, into the site's cluster.

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

/// Deploy the releases of gantry.yaml into the site's cluster, and wait until they are up.
///
/// For each release, in the order of what needs what (`needs:`, charts that bring kinds of objects
/// first): its images are moved to the site by an overlay and proven, its runtimes are wired to stay
/// inside, its namespace gets the pull secret and the site's CA, helm installs or upgrades it, and what
/// is pending is shown with the reason and the next step until all is up. The same input again changes
/// nothing.
///
/// Charts come from the site's registry (`gantry load` put them there), from volumes or a store
/// (--from), or from where gantry.yaml says. Ctrl-C leaves a release as it is; the same command goes
/// on. A release that a killed run left half done is mended first.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry deploy --site site.yaml                       # all releases of gantry.yaml
  gantry deploy --site site.yaml web --dry-run         # what would change, as a diff
  gantry deploy --site site.yaml --from /media/disk    # charts straight from the volumes
  gantry deploy --site site.yaml --timeout 20m --rollback
  gantry deploy --site site.yaml --registry-auth pull.json --pod-security restricted
  gantry deploy --site site.yaml --leftovers post-render

Exit codes: 0 up, 1 not up (the reasons are told), 2 nothing was touched,
3 an image would come from outside, 4 stopped (run it again to go on).")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Args {
    /// The releases [default: all of gantry.yaml].
    #[arg(value_name = "RELEASE")]
    releases: Vec<String>,
    /// The site's description: its registry, naming, pull secret, CA and context.
    #[arg(long, value_name = "FILE")]
    site: PathBuf,
    /// Volumes, a folder with volumes, or a store folder to take the charts from.
    #[arg(long, value_name = "VOLUME", num_args = 1..)]
    from: Vec<PathBuf>,
    /// A docker config.json with the credential for the pull secret [default: docker's and podman's own].
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// Make namespaces that are not there.
    #[arg(long, value_name = "BOOL", default_value = "true", value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set)]
    create_namespace: bool,
    /// Enforce this level of pod security in the namespaces: privileged, baseline or restricted.
    #[arg(long, value_name = "LEVEL", value_parser = ["privileged", "baseline", "restricted"])]
    pod_security: Option<String>,
    /// A way out for images that no value moves; may be given several times.
    #[arg(long, value_name = "WAY")]
    leftovers: Vec<Way>,
    /// Write the files that make nodes pull leftovers from the site, one folder a release.
    #[arg(long, value_name = "DIR")]
    mirrors: Option<PathBuf>,
    /// Deploy also what no value and no patch can wire to stay inside.
    #[arg(long)]
    allow_unwired: bool,
    /// How long each release may take for its hooks, and for its pods.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = releases::duration)]
    timeout: Duration,
    /// Put back the revision before when a release does not come up; a first install is taken away.
    #[arg(long)]
    rollback: bool,
    /// Take over releases that somebody else installed with helm.
    #[arg(long)]
    take_over: bool,
    /// Only tell what would change.
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What was done.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    context: String,
    server: String,
    releases: Vec<Deployed>,
}

/// What would be done.
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

/// Everything that stays the same over all releases.
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

    /// Where the charts are; the files that helm is given live as long as this.
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

    /// All releases moved, in the order in which they are installed.
    async fn moved(
        &self,
        asked: &[Asked],
        archives: &Archives<'_>,
        mover: &Mover<'_>,
    ) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for one in asked {
            self.context.ui.status(&format!("{}: moving to {}", one.release(), self.target.prefix));
            let archive = archives.file(self.context, one).await?;
            let done = tokio::task::block_in_place(|| mover.moved(one, &archive))?;
            self.tell(one, &done)?;
            moved.push((one.number, done));
        }
        let brings =
            |number: usize| moved.iter().any(|(other, done)| *other == number && done.brings_kinds);
        let order = self.input.order(&brings);
        moved.sort_by_key(|(number, _)| order.iter().position(|place| place == number));
        Ok(moved.into_iter().map(|(_, done)| done).collect())
    }

    /// What a person should know of a move, and the files for the nodes.
    fn tell(&self, asked: &Asked, moved: &Moved) -> Result<()> {
        let (ui, name) = (&self.context.ui, asked.release());
        for leftover in &moved.report.leftovers {
            ui.warn(&format!(
                "{name}: {} in {}: {}",
                leftover.image, leftover.place, leftover.reason
            ));
        }
        for left in &moved.wiring.leftovers {
            ui.warn(&format!("{name}: not wired: {}: {}; {}", left.place, left.what, left.next));
        }
        if let Some(folder) = &self.args.mirrors
            && !self.args.dry_run
        {
            for remedy in &moved.report.remedies {
                let file = folder.join(name).join(&remedy.file);
                world::write_deep(&file, &remedy.text)?;
                ui.status(&format!(
                    "{}: goes to {} ({})",
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

    /// What to do after a release that did not come up.
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
                "the release stays as it is, for a look; go on with the same command, or undo it: gantry undeploy --site {} {}",
                self.args.site.display(),
                planned.name()
            ));
        }
        if !done.is_empty() {
            let names: Vec<&str> = done.iter().map(|one| one.release.as_str()).collect();
            error = error.hint(format!("up are: {}", names.join(", ")));
        }
        error
    }
}

/// What the namespaces need, as the site says.
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
                    "registry.ca: {} is no PEM file with a certificate",
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

/// The cluster's version as helm takes it; some add words of their own (`v1.33.4+k3s1`).
async fn kube_version(cluster: &Cluster) -> Result<String> {
    let version = cluster.version().await?.git_version;
    let version = version.trim_start_matches('v');
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    Ok(version[..end].to_owned())
}

fn told(done: &Deployed) -> String {
    let what = match done.action {
        Action::None => "no change".to_owned(),
        action => format!("{}, {} objects", word(action), done.changed),
    };
    format!("{} is up in {}: revision {} ({what})", done.release, done.namespace, done.revision)
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Install => "install",
        Action::Upgrade => "upgrade",
        Action::None => "none",
        Action::Mend => "mend, then install",
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
    let mut text = ui::table(["release", "namespace", "chart", "done", "revision"], rows.collect());
    for one in summary.releases.iter().flat_map(|one| &one.beside) {
        if one.object.starts_with("ServiceAccount") && one.outcome != Outcome::Same {
            let _ = writeln!(text, "{} gives the pull secret, since no value does", one.object);
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
