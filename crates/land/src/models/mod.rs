//! Models to where programs read them: a folder (a mounted volume, a disk of a node) or a bucket of
//! an object store, in the layout that a runtime expects.
//!
//! ```text
//!                                                        ┌─▶ write (verified, resumable) ───────▶ folder
//!  Source ──roots──▶ plan (what goes where, by layout) ──┤
//!                                                        └─▶ bucket::push (verified, resumable) ─▶ bucket
//!                                                                        └──▶ .gantry/ what was put, for verify
//! ```
//!
//! Nothing is visible half in a folder: a blob gets its name when its digest was checked, a model's
//! folder when all of its files are there, and what points at it (a branch, a manifest) comes last,
//! by one rename. A bucket knows no rename: see [`bucket`]. What was written before a kill is kept.

pub mod bucket;
mod collect;
mod image;
mod place;
mod plan;
mod record;
mod tree;
mod verify;
mod write;

pub use bucket::Bucket;
pub use collect::collect;
pub use image::Packed;
pub use place::{Place, Stat};
pub use plan::{Choice, Content, Folder, Identity, Plan, Unfit, plan};
pub use record::{Record, Recorded};
pub use types::site::ModelFiles as Files;
pub use verify::{Bad, Checked, verify};
pub use write::{Put, write};

use std::path::PathBuf;

/// An error of a place for models.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source has none of what was asked for.
    #[error("the source has no model {name:?}; it has {}", list(has))]
    NoModel {
        /// What was asked for.
        name: String,
        /// What there is.
        has: Vec<String>,
    },
    /// The layout has no place for a kind of model.
    #[error("{name} cannot be put in the layout {layout}: {reason}")]
    Layout {
        /// The model.
        name: String,
        /// The layout.
        layout: &'static str,
        /// Why not, and what fits.
        reason: &'static str,
    },
    /// The source could not be read, its bytes are not what the digest says, or the disk has no room.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] types::Error),
    /// Something is in the way that Gantry did not make.
    #[error("{} is in the way: {reason}; move it away, Gantry deletes nothing that it did not make", path.display())]
    InTheWay {
        /// What.
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
    /// A bucket cannot be reached or refuses; nothing was touched.
    #[error("{url}: {fault}; {next}")]
    Connect {
        /// The bucket.
        url: String,
        /// What the server or the system said.
        fault: String,
        /// What to do.
        next: String,
    },
    /// A request about an object failed.
    #[error("{url}: {fault}; {next}")]
    Request {
        /// The object.
        url: String,
        /// What the server or the system said.
        fault: String,
        /// What to do.
        next: String,
    },
    /// A record in `.gantry` is broken.
    #[error("{} is no record of Gantry's: {reason}; put the models there again", path.display())]
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
    /// Whether the source's bytes are not those that its digests promise.
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::Source(store::Error::DigestMismatch { .. } | store::Error::SizeMismatch { .. })
        )
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// A closure that names the path in an IO error.
fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |cause| Error::Disk { path: path.to_owned(), cause }
}
