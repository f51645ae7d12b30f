//! Writes models to a target (a folder, a bucket or a claim) for `models push` and `load --site`, and
//! opens a target for reading, for `models verify`, `models ls` and `check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use land::claim::Way;
use land::models::bucket::{self, Access, Http};
use land::models::{self, Bucket, Checked, Choice, Place, Plan, Put, Record, Unfit};
use serde::Serialize;
use store::Source;
use store::progress::Progress;
use tokio::runtime::Runtime;
use types::ByteSize;
use types::destination::{Claim, Destination};
use types::site::{ModelFiles, ModelLayout, ModelTarget, Site};

use crate::claims::{self, Seeding};
use crate::clusters::ClusterArgs;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::{ui, world};

/// Whether models are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are written.
    Put,
    /// Nothing is written; the result says what would be.
    DryRun,
}

/// The result of writing models to one target.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pushed {
    to: String,
    layout: ModelLayout,
    is_dry_run: bool,
    pub(crate) models: Vec<PushedModel>,
    /// Whether the claim was created (or would be, in a dry run). Absent if the target is no claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_made: Option<bool>,
    /// How the content got to a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<Way>,
    /// Older revisions that were deleted (`--keep`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) collected: Vec<String>,
}

/// One model of a [`ModelPushReport`].
#[derive(Serialize)]
pub(crate) struct PushedModel {
    name: String,
    files: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<Put>,
}

/// Writes the models of a source that a target selects to a folder or a bucket. Paths of the target are
/// used as they are, relative to the current folder.
pub(crate) fn put(
    context: &Context,
    source: &dyn Source,
    target: &ModelTarget,
    unfit: Unfit,
    mode: Mode,
) -> Result<Pushed> {
    let files = match target.to {
        // Object stores have no symbolic links.
        Destination::Bucket(_) => ModelFiles::Plain,
        _ => target.files.unwrap_or_default(),
    };
    let choice = Choice { names: target.models.clone(), layout: target.layout, files, unfit };
    // Checked also in a dry run, which writes nothing and so would not notice.
    if let Destination::Folder(path) = &target.to
        && path.exists()
        && !path.is_dir()
    {
        return Err(CommandError::usage(format!("{} is not a folder", path.display())));
    }
    let plans = models::plan(source, &choice)?;
    let puts = match mode {
        Mode::DryRun => None,
        Mode::Put if plans.is_empty() => None,
        Mode::Put => Some(write(context, source, target, &plans)?),
    };
    let mut pushed = Pushed::new(target, &plans, puts.as_deref(), mode);
    // Only after a successful write: deleting an old revision before the new one is complete could leave
    // no usable model.
    if let (Destination::Folder(path), Some(keep), Mode::Put) = (&target.to, target.keep, mode) {
        pushed.collected = models::collect(path, &plans, usize::from(keep.get()))?;
    }
    Ok(pushed)
}

/// Writes the models of a source to all model targets of a site. A failure for one target does not
/// stop the others; the first error is returned beside the results, later ones are printed as warnings.
pub(crate) fn put_all(
    context: &Context,
    source: &Arc<dyn Source>,
    site: &Site,
    file: &Path,
    mode: Mode,
) -> (Vec<Pushed>, Option<CommandError>) {
    let (mut all, mut failed) = (Vec::new(), None);
    for target in &site.models {
        if target.to == Destination::Depot {
            context
                .ui
                .status("model target depot: nothing to copy, the depot serves the models it has");
            continue;
        }
        let beside = beside(target, file);
        let pushed = match &beside.to {
            Destination::Claim(claim) => {
                put_claim(context, source, (site, file), &beside, claim, mode)
            }
            _ => put(context, &**source, &beside, Unfit::LeftOut, mode),
        };
        match pushed {
            Ok(pushed) => {
                // A site file serves several bundles, and not every bundle has every model, so this is a warning
                // here. `models push --model` refuses it instead.
                for name in target.models.iter().filter(|name| !pushed.has(name)) {
                    context
                        .ui
                        .warn(&format!("{}: the bundle or store has no model {name}", target.to));
                }
                all.push(pushed);
            }
            Err(error) => {
                let error = error.within(&format!("models to {}", target.to));
                match &failed {
                    Some(_) => context.ui.warn(error.message()),
                    None => failed = Some(error),
                }
            }
        }
    }
    (all, failed)
}

/// Writes models to a claim, through a pod that runs Gantry's image from the site's registry.
fn put_claim(
    context: &Context,
    source: &Arc<dyn Source>,
    (site, file): (&Site, &Path),
    target: &ModelTarget,
    claim: &Claim,
    mode: Mode,
) -> Result<Pushed> {
    let seeding = Seeding {
        context,
        cluster: &ClusterArgs::default(),
        site: Some((site, file.parent().unwrap_or_else(|| Path::new(".")))),
        image: claims::site_image(site)?,
        timeout: claims::POD_TIMEOUT,
        verb: "push",
    };
    let claims = std::slice::from_ref(claim);
    let ways = claims::Ways::default();
    let mut all = seeding.put(source, target, claims, &ways, Unfit::LeftOut, mode)?;
    all.pop().ok_or_else(claims::unexpected)
}

/// The target with its paths resolved: in site.yaml they are relative to that file's folder.
fn beside(target: &ModelTarget, file: &Path) -> ModelTarget {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let mut target = target.clone();
    target.ca = target.ca.map(|path| folder.join(path));
    if let Destination::Folder(path) = &mut target.to {
        *path = folder.join(&*path);
    }
    target
}

impl Pushed {
    /// The result for a target; `puts` has an entry for each plan, or is `None` if nothing was written.
    pub(crate) fn new(
        target: &ModelTarget,
        plans: &[Plan],
        puts: Option<&[Put]>,
        mode: Mode,
    ) -> Self {
        let models = plans.iter().enumerate().map(|(index, plan)| PushedModel {
            name: plan.name.clone(),
            files: plan.files().count(),
            bytes: plan.size(),
            put: puts.and_then(|puts| puts.get(index).copied()),
        });
        Self {
            to: target.to.to_string(),
            layout: target.layout,
            is_dry_run: mode == Mode::DryRun,
            models: models.collect(),
            is_made: None,
            via: None,
            collected: vec![],
        }
    }

    /// Whether a model is among them, by its id, id and revision, or reference. Hub ids are compared
    /// without regard to case, as the Hub itself does.
    fn has(&self, name: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(name);
        self.models.iter().any(|model| {
            is(&model.name) || model.name.rsplit_once('@').is_some_and(|(id, _)| is(id))
        })
    }
}

/// A table of the models at one target, below a line that names the target.
pub(crate) fn print_named(pushed: &Pushed) -> String {
    if pushed.models.is_empty() {
        return format!("no models to write to {}\n", pushed.to);
    }
    format!("models at {}\n{}", pushed.to, print(pushed))
}

/// A table of the models at one target.
pub(crate) fn print(pushed: &Pushed) -> String {
    let rows = pushed.models.iter().map(|model| {
        let put = match model.put {
            Some(Put::Present) => "already present".to_owned(),
            Some(Put::Written) => format!("written{}", way(pushed.via)),
            None if pushed.is_made == Some(true) => "would be written to a new claim".to_owned(),
            None => "would be written".to_owned(),
        };
        let size = ByteSize(model.bytes).to_string();
        [model.name.clone(), model.files.to_string(), size, put]
    });
    let gone = pushed
        .collected
        .iter()
        .map(|name| [name.clone(), String::new(), String::new(), "deleted".to_owned()]);
    ui::table(["model", "files", "size", ""], rows.chain(gone).collect())
}

fn way(via: Option<Way>) -> &'static str {
    match via {
        Some(Way::Registry) => " from the registry",
        Some(Way::Api) => " through the API server",
        Some(Way::Both) => " from the registry and through the API server",
        Some(Way::None) | None => "",
    }
}

fn write(
    context: &Context,
    source: &dyn Source,
    target: &ModelTarget,
    plans: &[Plan],
) -> Result<Vec<Put>> {
    let layout = target.layout;
    let opened = match &target.to {
        // A missing folder is created by the write; opening would refuse it.
        Destination::Folder(path) => Opened::Folder(path.clone()),
        // Opened before anything is read or hashed, so that a wrong address or option is an error at once.
        to => Opened::new(context, to, access(target))?,
    };
    let meter = context.ui.progress("push");
    let puts = match &opened {
        Opened::Folder(path) => models::write(source, path, plans, layout, &*meter),
        Opened::Bucket(bucket, _) => bucket::push(source, bucket, plans, layout, &*meter),
    };
    if puts.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    Ok(puts?)
}

/// How to connect to the server of a target's bucket.
pub(crate) fn access(target: &ModelTarget) -> Access {
    Access {
        endpoint: target.endpoint.clone(),
        ca: target.ca.iter().cloned().collect(),
        http: if target.plain_http { Http::Allowed } else { Http::Refused },
    }
}

/// A target with models, opened.
pub(crate) enum Opened {
    /// A folder that exists.
    Folder(PathBuf),
    /// A bucket, and the async runtime that its connections run on.
    Bucket(Bucket, #[expect(dead_code, reason = "has to live as long as the bucket")] Runtime),
}

impl Opened {
    /// Opens a folder or a bucket, which must exist. Claims are reached through a pod instead.
    pub(crate) fn new(context: &Context, to: &Destination, mut access: Access) -> Result<Self> {
        match to {
            Destination::Folder(path) if path.is_dir() => Ok(Self::Folder(path.clone())),
            Destination::Folder(path) => {
                let shown = path.display();
                Err(CommandError::usage(format!("{shown}: no such folder")))
            }
            Destination::Bucket(address) => {
                access.ca.extend(context.config.ca.iter().cloned());
                let runtime = world::runtime()?;
                let bucket = Bucket::open(address, &access, runtime.handle())?;
                Ok(Self::Bucket(bucket, runtime))
            }
            Destination::Claim(claim) => Err(of_a_claim(claim)),
            Destination::Depot => Err(CommandError::usage(
                "a depot has no files to read; ask its address for what it serves",
            )),
        }
    }

    /// The records that `models push` left there, one for each model.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        Ok(match self {
            Self::Folder(path) => Record::read_all(path.as_path()),
            Self::Bucket(bucket, _) => Record::read_all(bucket),
        }?)
    }

    /// Reads and hashes every file in the records.
    pub(crate) fn verify(&self, progress: &dyn Progress) -> Result<Checked> {
        Ok(match self {
            Self::Folder(path) => models::verify(path.as_path(), progress),
            Self::Bucket(bucket, _) => models::verify(bucket, progress),
        }?)
    }

    /// The path or URL of a file in it, as shown to the user.
    pub(crate) fn shown(&self, file: &Path) -> PathBuf {
        match self {
            Self::Folder(path) => path.as_path().shown(file),
            Self::Bucket(bucket, _) => bucket.shown(file),
        }
    }
}

/// The error for opening a claim, whose files only a pod in the cluster can reach.
fn of_a_claim(claim: &Claim) -> CommandError {
    CommandError::usage(format!("{claim} can only be reached by a pod in the cluster"))
        .hint("gantry models push, verify and ls start such a pod")
}
