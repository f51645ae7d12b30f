//! Errors of loading models into a cluster, one variant for each kind of next step.

use types::Cause;

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
        #[source]
        why: Cause,
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
    /// The pod answered with another event than its task has.
    #[error("the seeder pod did not do what it was asked")]
    UnexpectedEvent,
    /// The content is to come from a depot, and none is known.
    #[error("no depot is known that has the models")]
    NoDepot,
    /// The content is to come from the site's registry, and no site is known.
    #[error("the site's registry is not known")]
    NoSiteRegistry,
    /// What was named as a depot is none.
    #[error("{url:?} is not the address of a depot")]
    NotADepot {
        /// What was named.
        url: String,
    },
    /// The registry's CA cannot be read.
    #[error(transparent)]
    Certificate(#[from] remote::Error),
    /// A name at the site is not valid.
    #[error(transparent)]
    Name(#[from] types::Error),
    /// The source cannot be read, or its models cannot be laid out.
    #[error(transparent)]
    Models(#[from] crate::models::Error),
}

/// `Result` with this module's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The next step, where the message ends with one.
    pub fn next_step(&self) -> Option<&str> {
        match self {
            Self::Input { next, .. } => Some(next),
            Self::Models(error) => error.next_step(),
            Self::Cluster(error) => error.next_step(),
            _ => None,
        }
    }

    /// An [`Error::Input`]: what is wrong, and the next step.
    pub(super) fn invalid_input(
        what: impl Into<String>,
        why: impl Into<Cause>,
        next: impl Into<String>,
    ) -> Self {
        Self::Input { what: what.into(), why: why.into(), next: next.into() }
    }
}
