//! Errors of loading models into a cluster, one variant for each kind of next step.

use super::order::SeederFailureKind;

/// An error of loading, listing or verifying models in a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused something, or cannot be reached.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Something has to be changed first; nothing was written.
    #[error("{what}: {why}; {next}")]
    Input {
        /// The claim, class, node or namespace.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        next: String,
    },
    /// The seeder pod did its order and failed.
    #[error("{what}: {message}")]
    Work {
        /// The claim or the node's folder.
        what: String,
        /// Who has to do something about it.
        fault: SeederFailureKind,
        /// What went wrong, as the pod says it.
        message: String,
    },
    /// The pod ended, or the connection to it broke, several times in a row without progress.
    #[error("{what}: {why}; what was written is kept, run the same command again to resume")]
    Broken {
        /// The claim or the node's folder.
        what: String,
        /// The last failure.
        why: String,
    },
    /// The source cannot be read, or its models cannot be laid out.
    #[error(transparent)]
    Models(#[from] crate::models::Error),
}

/// `Result` with this module's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Input`]: what is wrong, and the next step.
    pub(super) fn invalid_input(
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::Input { what: what.into(), why: why.into(), next: next.into() }
    }
}
