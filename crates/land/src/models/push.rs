//! Writes the models that a target selects to a folder or a bucket, and reports it. [`crate::claim`]
//! makes the same report for claims.

use serde::Serialize;
use store::Source;
use store::progress::Progress;
use types::config::UserConfig;
use types::destination::ModelDestination;
use types::site::{CacheFileStyle, ModelLayout, ModelTarget};

use super::bucket::BucketAccess;
use super::target::OpenModelTarget;
use super::{
    Error, ModelPutOutcome, ModelSelection, PlannedModels, Result, UnfitModel, UnfitModelPolicy,
    collect_old_revisions, plan_models,
};
use crate::claim::TransferRoute;

/// Whether models are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushMode {
    /// They are written.
    Put,
    /// Nothing is written; the result says what would be.
    DryRun,
}

/// The result of writing models to one target.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelPushReport {
    /// The target.
    #[serde(rename = "target")]
    pub to: String,
    /// The layout of the models there.
    pub layout: ModelLayout,
    /// Whether nothing was written.
    #[serde(skip)]
    pub is_dry_run: bool,
    /// The models.
    pub models: Vec<PushedModel>,
    /// Whether the claim was created (or would be, in a dry run). Absent if the target is no claim.
    #[serde(rename = "created", skip_serializing_if = "Option::is_none")]
    pub is_made: Option<bool>,
    /// How the content got to a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<TransferRoute>,
    /// Older revisions that were deleted, since the target keeps only the newest.
    #[serde(rename = "deletedRevisions", skip_serializing_if = "Vec::is_empty")]
    pub collected: Vec<String>,
    /// Models and files of the source that the layout cannot hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<UnfitModel>,
    /// Models that the target names and the source does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// One model of a [`ModelPushReport`].
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct PushedModel {
    /// Its name with its revision.
    pub name: String,
    /// The number of its files.
    #[serde(rename = "fileCount")]
    pub files: usize,
    /// Their length.
    pub bytes: u64,
    /// What a dry run would write of it; absent where the target was not asked.
    #[serde(rename = "missingBytes", skip_serializing_if = "Option::is_none")]
    pub missing_bytes: Option<u64>,
    /// What was done; in a dry run `present`, or absent if something would be written.
    #[serde(rename = "outcome", skip_serializing_if = "Option::is_none")]
    pub put: Option<ModelPutOutcome>,
}

/// The models of a source that go to a folder or a bucket.
pub struct ModelPush<'a> {
    target: &'a ModelTarget,
    planned: PlannedModels,
}

impl<'a> ModelPush<'a> {
    /// Plans the models that a target selects. Its paths are used as they are, relative to the current
    /// folder. Nothing is written.
    pub fn plan(
        source: &dyn Source,
        target: &'a ModelTarget,
        unfit: UnfitModelPolicy,
    ) -> Result<Self> {
        // Checked also for a dry run, which writes nothing and so would not notice.
        if let ModelDestination::Folder(path) = &target.to
            && path.exists()
            && !path.is_dir()
        {
            return Err(Error::NotAFolder { path: path.clone() });
        }
        let planned = plan_models(source, &ModelSelection::of_target(target, unfit))?;
        Ok(Self { target, planned })
    }

    /// Whether the source has no model for the target.
    pub fn is_empty(&self) -> bool {
        self.planned.plans.is_empty()
    }

    /// What would be written to an empty target.
    pub fn preview(&self) -> ModelPushReport {
        ModelPushReport::new(self.target, &self.planned, None, PushMode::DryRun)
    }

    /// What would be written to the opened target, and what is there already.
    pub fn preview_at(&self, opened: &OpenModelTarget) -> Result<ModelPushReport> {
        let mut report = self.preview();
        let missing = opened.find_missing_bytes(&self.planned.plans)?;
        for (model, missing) in report.models.iter_mut().zip(missing) {
            model.missing_bytes = Some(missing);
            model.put = (missing == 0).then_some(ModelPutOutcome::Present);
        }
        Ok(report)
    }

    /// Opens the target. Done before anything is read or hashed, so that a wrong address or option is an
    /// error at once. `config` has certificate authorities and limits.
    pub fn open_target(&self, config: &UserConfig) -> Result<OpenModelTarget> {
        let access = BucketAccess::of_target(self.target, config);
        OpenModelTarget::open_to_write(&self.target.to, &access)
    }

    /// Writes the models into the opened target, and then deletes the revisions that it does not keep.
    pub fn write(
        &self,
        source: &dyn Source,
        opened: &OpenModelTarget,
        progress: &dyn Progress,
    ) -> Result<ModelPushReport> {
        let (target, plans) = (self.target, &self.planned.plans);
        let puts = opened.write(source, plans, target.layout, progress)?;
        let mut report = ModelPushReport::new(target, &self.planned, Some(&puts), PushMode::Put);
        // Only after a successful write: deleting an old revision before the new one is complete could
        // leave no usable model.
        if let (OpenModelTarget::Folder(path), Some(keep)) = (opened, target.keep) {
            report.collected = collect_old_revisions(path, plans, usize::from(keep.get()))?;
        }
        Ok(report)
    }
}

impl ModelPushReport {
    /// The result for a target; `puts` has an entry for each plan, or is `None` if nothing was written.
    pub fn new(
        target: &ModelTarget,
        planned: &PlannedModels,
        puts: Option<&[ModelPutOutcome]>,
        mode: PushMode,
    ) -> Self {
        let models = planned.plans.iter().enumerate().map(|(index, plan)| PushedModel {
            name: plan.name.clone(),
            files: plan.files().count(),
            bytes: plan.size(),
            missing_bytes: None,
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
            left_out: planned.left_out.clone(),
            missing: planned.missing.clone(),
        }
    }
}

impl ModelSelection {
    /// The models that a target selects, in its layout.
    pub fn of_target(target: &ModelTarget, unfit: UnfitModelPolicy) -> Self {
        let files = match target.to {
            // Object stores have no symbolic links.
            ModelDestination::Bucket(_) => CacheFileStyle::Plain,
            _ => target.files.unwrap_or_default(),
        };
        Self { names: target.models.clone(), layout: target.layout, files, unfit }
    }
}
