//! What can go wrong with models in a folder or a bucket.

use std::path::PathBuf;

use types::Cause;

use super::unfit_model::UnfitModel;

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
    /// The layout can hold none of the source's models.
    #[error("nothing can be written in the layout {layout}: {}", join_unfit(left_out))]
    NothingFits {
        /// The layout.
        layout: &'static str,
        /// The models, each with its reason.
        left_out: Vec<UnfitModel>,
    },
    /// Two files have the same name and different content.
    #[error("{} and {} are both called {}; write one of them, with --model NAME", names[0], names[1], path.display())]
    SameName {
        /// The name.
        path: PathBuf,
        /// The names of the two as OCI artifacts, by which one can be chosen.
        names: [String; 2],
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
        #[source]
        cause: std::io::Error,
    },
    /// A folder does not exist.
    #[error("{}: no such folder", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// What was named as a folder is something else.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A claim was to be read or written without a pod.
    #[error("{claim} can only be reached by a pod in the cluster")]
    OnlyInCluster {
        /// The claim.
        claim: String,
    },
    /// A depot was to be read or written like a folder.
    #[error("a depot has no files to read; ask its address for what it serves")]
    NoFiles,
    /// The runtime for a bucket's connections cannot be started.
    #[error("cannot start the async runtime")]
    Runtime {
        /// Why.
        #[source]
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
        #[source]
        reason: Cause,
    },
}

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The next step, where the message ends with one.
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::Connect { next, .. } | Self::Request { next, .. } => Some(next),
            _ => None,
        }
    }

    /// Whether a symbolic link was not followed.
    pub(super) fn is_refused_link(&self) -> bool {
        matches!(self, Self::Disk { cause, .. } if store::confined::is_refused_link(cause))
    }

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

/// Models that do not fit, for an error message.
fn join_unfit(models: &[UnfitModel]) -> String {
    let model = |model: &UnfitModel| format!("{}: {}", model.name, model.reason);
    models.iter().map(model).collect::<Vec<_>>().join("; ")
}

/// A closure that names the path in an IO error.
pub(super) fn disk_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |cause| Error::Disk { path: path.to_owned(), cause }
}
