//! What can go wrong with the webhook. Every message names the thing, the cause and the next step.

use std::path::PathBuf;

/// An error of setting up or running the webhook.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The site, a lock or a receipt cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A certificate file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A lock has no images, so every pod would be refused.
    #[error(
        "the lock {lock:?} has no images, so its webhook would refuse every pod; give a lock with images"
    )]
    NothingLocked {
        /// The lock's name.
        lock: String,
    },
    /// The locks do not fit into a ConfigMap, even without what the webhook does not need.
    #[error(
        "the locks have {bytes} bytes even without their layers, and a ConfigMap holds at most {most}; give fewer locks"
    )]
    LongLock {
        /// The bytes of the shortened locks.
        bytes: usize,
        /// The most bytes that the API server takes.
        most: usize,
    },
    /// Gantry's own image is in no lock.
    #[error(
        "{image} is in none of the given locks, so the site has no image to run the webhook from"
    )]
    NoImage {
        /// The image that was looked for.
        image: String,
    },
    /// An argument is not valid.
    #[error("{text:?} is not a valid {what}: {reason}")]
    Invalid {
        /// What it should have been.
        what: &'static str,
        /// The text.
        text: String,
        /// Why it is not valid, and what to write.
        reason: String,
    },
    /// The time of this machine is so far off that no certificate can be made.
    #[error("{text:?} is not a valid time: {source}; set the clock of this machine")]
    Clock {
        /// The time.
        text: String,
        /// Why it is not valid.
        #[source]
        source: jiff::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The site selects no namespaces, so that there are none to keep.
    #[error("{} has no namespaces:, so there are none to keep; add namespaces: or leave the option out", path.display())]
    NoNamespaces {
        /// The site file.
        path: PathBuf,
    },
    /// The pull secret that is to be copied does not exist, or has no password for the registry.
    #[error(
        "namespace {namespace} has no pull secret {name} with a password for the site's registry; create it there: kubectl create secret docker-registry {name} -n {namespace} --docker-server HOST --docker-username USER --docker-password PASSWORD"
    )]
    NoPullSecret {
        /// The Secret.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// What the site gives to its namespaces cannot be read or written.
    #[error(transparent)]
    Deploy(#[from] deploy::Error),
    /// An error of the cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The site, a lock or a receipt is not valid.
    #[error(transparent)]
    Types(#[from] types::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the input has to change, so that trying again is of no use.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::NothingLocked { .. }
            | Self::LongLock { .. }
            | Self::NoImage { .. }
            | Self::Invalid { .. }
            | Self::Clock { .. }
            | Self::NoNamespaces { .. }
            | Self::Types(_)
            | Self::Cluster(
                cluster::Error::NoAccess { .. }
                | cluster::Error::NoContext { .. }
                | cluster::Error::MissingRights { .. }
                | cluster::Error::NoObject { .. }
                | cluster::Error::NotOurs { .. },
            ) => true,
            Self::Write { .. }
            | Self::Certificate(_)
            | Self::NoPullSecret { .. }
            | Self::Deploy(_)
            | Self::Cluster(_) => false,
        }
    }
}
