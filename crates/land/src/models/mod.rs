//! Writes models to where runtimes read them: a folder (a mounted volume, a node's disk) or a bucket
//! of an object store, in the layout that the runtime expects.
//!
//! ```text
//!                                                    ┌─▶ write (verified, resumable) ───────▶ folder
//!  Source ──roots──▶ plan (which file goes where) ───┤
//!                                                    └─▶ bucket::push (verified, resumable) ─▶ bucket
//!                              both ──▶ record: .gantry/models/*.json, what was written, for verify
//! ```
//!
//! A folder never shows a model by halves: a file gets its name when its digest was checked, a model's
//! folder when all of its files are there, and what points at it (a branch, a manifest) comes last,
//! each by one rename. A bucket knows no rename: see [`bucket`] for what it does instead. What was
//! written before a kill is kept, and the next run resumes.

pub mod bucket;
mod collect;
mod error;
mod folder;
mod image;
mod model_name;
mod plan;
mod push;
mod record;
mod small_file;
mod storage;
mod target;
#[cfg(test)]
mod test_source;
mod unfit_model;
mod verify;
mod write;

pub use bucket::ModelBucket;
pub use collect::collect_old_revisions;
pub use error::{Error, Result};
pub use image::ModelImage;
pub use model_name::ModelName;
pub use plan::{
    FileContent, FolderIdentity, ModelFolder, ModelPlan, ModelSelection, PlannedModels,
    UnfitModelPolicy, plan_models,
};
pub use push::{ModelPush, ModelPushReport, PushMode, PushedModel};
pub use record::{ModelRecord, RecordedFile};
pub use storage::{FileStat, ModelStorage};
pub use target::{OpenModelTarget, find_expected_name, resolve_target_paths};
pub use types::site::CacheFileStyle as Files;
pub use unfit_model::UnfitModel;
pub use verify::{DamagedFile, ModelVerifyReport, verify_models};
pub use write::{ModelPutOutcome, write_models};
