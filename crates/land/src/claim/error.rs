//! What can go wrong with models in a cluster, by meaning.

use super::order::Fault;

/// An error of models in a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster, or the way to it.
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
    /// The pod's work failed.
    #[error("{what}: {message}")]
    Work {
        /// The volume.
        what: String,
        /// What it means.
        fault: Fault,
        /// In words.
        message: String,
    },
    /// The pod ended, or the connection to it broke, again and again.
    #[error("{what}: {why}; what was written stays, run the same command again to go on")]
    Broken {
        /// The volume and its pod.
        what: String,
        /// What was seen last.
        why: String,
    },
    /// The source, or its models.
    #[error(transparent)]
    Models(#[from] crate::models::Error),
}

/// `Result` with this module's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn input(
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::Input { what: what.into(), why: why.into(), next: next.into() }
    }
}
