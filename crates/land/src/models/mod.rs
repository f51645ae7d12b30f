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
mod folder;
mod image;
mod plan;
mod record;
mod storage;
mod verify;
mod write;

pub use bucket::ModelBucket;
pub use collect::collect_old_revisions;
pub use image::ModelImage;
pub use plan::{
    FileContent, FolderIdentity, ModelFolder, ModelPlan, ModelSelection, UnfitModelPolicy,
    plan_models,
};
pub use record::{ModelRecord, RecordedFile};
pub use storage::{FileStat, ModelStorage};
pub use types::site::CacheFileStyle as Files;
pub use verify::{DamagedFile, ModelVerifyReport, verify_models};
pub use write::{ModelPutOutcome, write_models};

use std::path::PathBuf;

/// An error of writing, listing or verifying models in a folder or a bucket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source does not have a model that was named, or has no models.
    #[error("the source has no model {name:?}; it has {}", join_names(has))]
    NoModel {
        /// The name that was asked for.
        name: String,
        /// The models that the source has.
        has: Vec<String>,
    },
    /// The layout cannot hold this kind of model.
    #[error("{name} cannot be written in the layout {layout}: {reason}")]
    Layout {
        /// The model.
        name: String,
        /// The layout.
        layout: &'static str,
        /// Why not, and which layouts can.
        reason: &'static str,
    },
    /// The source could not be read, its bytes do not have their digest, or the disk is full.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] types::Error),
    /// A file or folder that Gantry did not make is where the model has to go.
    #[error("{} is in the way: {reason}; move it away (Gantry deletes nothing that it did not make)", path.display())]
    InTheWay {
        /// The file or folder.
        path: PathBuf,
        /// Why it cannot be kept.
        reason: String,
    },
    /// The folder could not be read or written.
    #[error("{}: {cause}", path.display())]
    Disk {
        /// What was read or written.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A bucket cannot be reached or refuses the first request; nothing was changed.
    #[error("{url}: {fault}; {next}")]
    Connect {
        /// The bucket.
        url: String,
        /// What the server or the system said.
        fault: String,
        /// What to do.
        next: String,
    },
    /// A request for one object failed.
    #[error("{url}: {fault}; {next}")]
    Request {
        /// The object.
        url: String,
        /// What the server or the system said.
        fault: String,
        /// What to do.
        next: String,
    },
    /// A record in `.gantry` cannot be read or written.
    #[error("{} is not a valid record of Gantry: {reason}; delete it and load the models again", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
}

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the source's bytes do not have the digest that they should have (exit code 3).
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::Source(store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. })
        )
    }
}

/// Names for an error message.
fn join_names(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// A closure that names the path in an IO error.
fn disk_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |cause| Error::Disk { path: path.to_owned(), cause }
}
