//! Writes models to a target (a folder, a bucket or a claim) for `models push` and `load --site`, and
//! opens a target for reading, for `models verify`, `models ls` and `check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use land::claim::TransferRoute;
use land::models::bucket::{self, BucketAccess, PlainHttpPolicy};
use land::models::{
    self, ModelBucket, ModelPlan, ModelPutOutcome, ModelRecord, ModelSelection, ModelStorage,
    ModelVerifyReport, UnfitModelPolicy,
};
use serde::Serialize;
use store::Source;
use store::progress::Progress;
use tokio::runtime::Runtime;
use types::ByteSize;
use types::destination::{ClaimFolder, ModelDestination};
use types::site::{CacheFileStyle, ModelLayout, ModelTarget, Site, site_folder};

use crate::claims::{self, SeederSession};
use crate::clusters::ClusterArgs;
use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::{environment, ui};

/// Whether models are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushMode {
    /// They are written.
    Put,
    /// Nothing is written; the result says what would be.
    DryRun,
}

/// The result of writing models to one target.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelPushReport {
    to: String,
    layout: ModelLayout,
    is_dry_run: bool,
    pub(crate) models: Vec<PushedModel>,
    /// Whether the claim was created (or would be, in a dry run). Absent if the target is no claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_made: Option<bool>,
    /// How the content got to a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<TransferRoute>,
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
    put: Option<ModelPutOutcome>,
}

/// Writes the models of a source that a target selects to a folder or a bucket. Paths of the target are
/// used as they are, relative to the current folder.
pub(crate) fn push_models(
    context: &CommandContext,
    source: &dyn Source,
    target: &ModelTarget,
    unfit: UnfitModelPolicy,
    mode: PushMode,
) -> Result<ModelPushReport> {
    let files = match target.to {
        // Object stores have no symbolic links.
        ModelDestination::Bucket(_) => CacheFileStyle::Plain,
        _ => target.files.unwrap_or_default(),
    };
    let choice =
        ModelSelection { names: target.models.clone(), layout: target.layout, files, unfit };
    // Checked also in a dry run, which writes nothing and so would not notice.
    if let ModelDestination::Folder(path) = &target.to
        && path.exists()
        && !path.is_dir()
    {
        return Err(CommandError::usage_error(format!("{} is not a folder", path.display())));
    }
    let plans = models::plan_models(source, &choice)?;
    let puts = match mode {
        PushMode::DryRun => None,
        PushMode::Put if plans.is_empty() => None,
        PushMode::Put => Some(write_models(context, source, target, &plans)?),
    };
    let mut pushed = ModelPushReport::new(target, &plans, puts.as_deref(), mode);
    // Only after a successful write: deleting an old revision before the new one is complete could leave
    // no usable model.
    if let (ModelDestination::Folder(path), Some(keep), PushMode::Put) =
        (&target.to, target.keep, mode)
    {
        pushed.collected = models::collect_old_revisions(path, &plans, usize::from(keep.get()))?;
    }
    Ok(pushed)
}

/// Writes the models of a source to all model targets of a site. A failure for one target does not
/// stop the others; the first error is returned beside the results, later ones are printed as warnings.
pub(crate) fn push_to_site_targets(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    site: &Site,
    file: &Path,
    mode: PushMode,
) -> (Vec<ModelPushReport>, Option<CommandError>) {
    let (mut all, mut failed) = (Vec::new(), None);
    for target in &site.models {
        if target.to == ModelDestination::Depot {
            context.ui.print_status(
                "model target depot: nothing to copy, the depot serves the models it has",
            );
            continue;
        }
        let beside = resolve_target_paths(target, file);
        let pushed = match &beside.to {
            ModelDestination::Claim(claim) => {
                push_to_claim(context, source, (site, file), &beside, claim, mode)
            }
            _ => push_models(context, &**source, &beside, UnfitModelPolicy::LeftOut, mode),
        };
        match pushed {
            Ok(pushed) => {
                // A site file serves several bundles, and not every bundle has every model, so this is a warning
                // here. `models push --model` refuses it instead.
                for name in target.models.iter().filter(|name| !pushed.has_model(name)) {
                    context.ui.print_warning(&format!(
                        "{}: the bundle or store has no model {name}",
                        target.to
                    ));
                }
                all.push(pushed);
            }
            Err(error) => {
                let error = error.as_part_of(&format!("models to {}", target.to));
                match &failed {
                    Some(_) => context.ui.print_warning(error.message()),
                    None => failed = Some(error),
                }
            }
        }
    }
    (all, failed)
}

/// Writes models to a claim, through a pod that runs Gantry's image from the site's registry.
fn push_to_claim(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    (site, file): (&Site, &Path),
    target: &ModelTarget,
    claim: &ClaimFolder,
    mode: PushMode,
) -> Result<ModelPushReport> {
    let seeding = SeederSession {
        context,
        cluster: &ClusterArgs::default(),
        site: Some((site, site_folder(file))),
        image: claims::build_site_image(site)?,
        timeout: claims::POD_TIMEOUT,
        verb: "push",
    };
    let claims = std::slice::from_ref(claim);
    let ways = claims::SeedRouteChoice::default();
    let mut all =
        seeding.put_models(source, target, claims, &ways, UnfitModelPolicy::LeftOut, mode)?;
    all.pop().ok_or_else(claims::build_unexpected_event_error)
}

/// The target with its paths resolved: in site.yaml they are relative to that file's folder.
fn resolve_target_paths(target: &ModelTarget, file: &Path) -> ModelTarget {
    let folder = site_folder(file);
    let mut target = target.clone();
    target.ca = target.ca.map(|path| folder.join(path));
    if let ModelDestination::Folder(path) = &mut target.to {
        *path = folder.join(&*path);
    }
    target
}

impl ModelPushReport {
    /// The result for a target; `puts` has an entry for each plan, or is `None` if nothing was written.
    pub(crate) fn new(
        target: &ModelTarget,
        plans: &[ModelPlan],
        puts: Option<&[ModelPutOutcome]>,
        mode: PushMode,
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
            is_dry_run: mode == PushMode::DryRun,
            models: models.collect(),
            is_made: None,
            via: None,
            collected: vec![],
        }
    }

    /// Whether a model is among them, by its id, id and revision, or reference. Hub ids are compared
    /// without regard to case, as the Hub itself does.
    fn has_model(&self, name: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(name);
        self.models.iter().any(|model| {
            is(&model.name) || model.name.rsplit_once('@').is_some_and(|(id, _)| is(id))
        })
    }
}

/// A table of the models at one target, below a line that names the target.
pub(crate) fn format_push_with_target(pushed: &ModelPushReport) -> String {
    if pushed.models.is_empty() {
        return format!("no models to write to {}\n", pushed.to);
    }
    format!("models at {}\n{}", pushed.to, format_push(pushed))
}

/// A table of the models at one target.
pub(crate) fn format_push(pushed: &ModelPushReport) -> String {
    let rows = pushed.models.iter().map(|model| {
        let put = match model.put {
            Some(ModelPutOutcome::Present) => "already present".to_owned(),
            Some(ModelPutOutcome::Written) => format!("written{}", describe_route(pushed.via)),
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
    ui::format_table(["model", "files", "size", ""], rows.chain(gone).collect())
}

fn describe_route(via: Option<TransferRoute>) -> &'static str {
    match via {
        Some(TransferRoute::Registry) => " from the registry",
        Some(TransferRoute::Api) => " through the API server",
        Some(TransferRoute::Both) => " from the registry and through the API server",
        Some(TransferRoute::None) | None => "",
    }
}

fn write_models(
    context: &CommandContext,
    source: &dyn Source,
    target: &ModelTarget,
    plans: &[ModelPlan],
) -> Result<Vec<ModelPutOutcome>> {
    let layout = target.layout;
    let opened = match &target.to {
        // A missing folder is created by the write; opening would refuse it.
        ModelDestination::Folder(path) => OpenModelTarget::Folder(path.clone()),
        // Opened before anything is read or hashed, so that a wrong address or option is an error at once.
        to => OpenModelTarget::open(context, to, build_bucket_access(target))?,
    };
    let meter = context.ui.start_progress("push");
    let puts = match &opened {
        OpenModelTarget::Folder(path) => models::write_models(source, path, plans, layout, &*meter),
        OpenModelTarget::Bucket(bucket, _) => {
            bucket::push_models(source, bucket, plans, layout, &*meter)
        }
    };
    if puts.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    Ok(puts?)
}

/// How to connect to the server of a target's bucket.
pub(crate) fn build_bucket_access(target: &ModelTarget) -> BucketAccess {
    BucketAccess {
        endpoint: target.endpoint.clone(),
        ca: target.ca.iter().cloned().collect(),
        http: if target.plain_http { PlainHttpPolicy::Allowed } else { PlainHttpPolicy::Refused },
    }
}

/// A target with models, opened.
pub(crate) enum OpenModelTarget {
    /// A folder that exists.
    Folder(PathBuf),
    /// A bucket, and the async runtime that its connections run on.
    Bucket(ModelBucket, #[expect(dead_code, reason = "has to live as long as the bucket")] Runtime),
}

impl OpenModelTarget {
    /// Opens a folder or a bucket, which must exist. Claims are reached through a pod instead.
    pub(crate) fn open(
        context: &CommandContext,
        to: &ModelDestination,
        mut access: BucketAccess,
    ) -> Result<Self> {
        match to {
            ModelDestination::Folder(path) if path.is_dir() => Ok(Self::Folder(path.clone())),
            ModelDestination::Folder(path) => {
                let shown = path.display();
                Err(CommandError::usage_error(format!("{shown}: no such folder")))
            }
            ModelDestination::Bucket(address) => {
                access.ca.extend(context.config.ca.iter().cloned());
                let runtime = environment::build_runtime()?;
                let bucket = ModelBucket::open(address, &access, runtime.handle())?;
                Ok(Self::Bucket(bucket, runtime))
            }
            ModelDestination::Claim(claim) => Err(build_claim_access_error(claim)),
            ModelDestination::Depot => Err(CommandError::usage_error(
                "a depot has no files to read; ask its address for what it serves",
            )),
        }
    }

    /// The records that `models push` left there, one for each model.
    pub(crate) fn records(&self) -> Result<Vec<ModelRecord>> {
        Ok(match self {
            Self::Folder(path) => ModelRecord::read_all(path.as_path()),
            Self::Bucket(bucket, _) => ModelRecord::read_all(bucket),
        }?)
    }

    /// Reads and hashes every file in the records.
    pub(crate) fn verify(&self, progress: &dyn Progress) -> Result<ModelVerifyReport> {
        Ok(match self {
            Self::Folder(path) => models::verify_models(path.as_path(), progress),
            Self::Bucket(bucket, _) => models::verify_models(bucket, progress),
        }?)
    }

    /// The path or URL of a file in it, as shown to the user.
    pub(crate) fn display_path(&self, file: &Path) -> PathBuf {
        match self {
            Self::Folder(path) => path.as_path().display_path(file),
            Self::Bucket(bucket, _) => bucket.display_path(file),
        }
    }
}

/// The error for opening a claim, whose files only a pod in the cluster can reach.
fn build_claim_access_error(claim: &ClaimFolder) -> CommandError {
    CommandError::usage_error(format!("{claim} can only be reached by a pod in the cluster"))
        .with_hint("gantry models push, verify and ls start such a pod")
}
