//! Errors of an audit. Every message says the next step.

use std::io;
use std::net::SocketAddr;

use types::yaml::DocumentFault;

/// An error of an audit, or of putting back what one has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Corefile that CoreDNS itself could not read.
    #[error(
        "CoreDNS' Corefile cannot be read, line {line}: {reason}; correct it, or audit without DNS \
         names (--no-dns)"
    )]
    Corefile {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// CoreDNS is not configured to reload a changed Corefile.
    #[error(
        "CoreDNS does not reload a changed Corefile, since the plugin `reload` is not in it; add a line \
         `reload` to its block, or audit without DNS names (--no-dns)"
    )]
    NoReload,
    /// The cluster's DNS service cannot be made to forward to the sink.
    #[error("the cluster's DNS cannot be made to forward to the audit's sink: {reason}; {next}")]
    NameService {
        /// Why not.
        reason: String,
        /// What to do by hand.
        next: String,
    },
    /// Somebody else changed CoreDNS' configuration during the audit.
    #[error(
        "{what} was changed by somebody else during the audit, so Gantry leaves it as it is; the text \
         from before the audit is in {record}, key `before`: restore by hand what should stay, then \
         delete that ConfigMap"
    )]
    ChangedMeanwhile {
        /// The ConfigMap.
        what: String,
        /// The ConfigMap with the text from before the audit.
        record: String,
    },
    /// Another audit runs in this cluster.
    #[error(
        "another audit is running in this cluster: process {pid} on {host}, since {since}; wait until it \
         has finished. If it was killed, undo its changes with: gantry audit restore"
    )]
    Busy {
        /// The machine that it runs on.
        host: String,
        /// Its process id.
        pid: u32,
        /// When it began, in RFC 3339.
        since: String,
    },
    /// An object with the name of one of the audit's own is there, but not as the audit makes it.
    #[error(
        "{what} is not as an audit writes it: {source}; look at it, and delete it if nobody needs it"
    )]
    Record {
        /// The object.
        what: String,
        /// What is wrong with it: a text, or an error of its JSON.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pull secret for Gantry's own image cannot be used.
    #[error(
        "the audit cannot use the pull secret {secret}: {source}; correct it: `gantry deploy` writes the \
         one that site.yaml names"
    )]
    PullSecret {
        /// Its namespace and name.
        secret: String,
        /// What is wrong with it, or with the image's name.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose an address of this machine and a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Manifests that are not valid YAML.
    #[error("{name}: the document at line {line} is not valid YAML: {fault}")]
    Manifests {
        /// The file.
        name: String,
        /// The line that the document begins on.
        line: usize,
        /// Where in the document, and what is wrong.
        fault: DocumentFault,
    },
    /// A report or an object cannot be made; it is a bug.
    #[error("the report cannot be written: {source}")]
    Report {
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The HTML page of the report cannot be made; it is a bug.
    #[error(transparent)]
    Page(#[from] html::Error),
    /// The API server refused something, or cannot be reached.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A network policy could not be written.
    #[error(transparent)]
    Policy(#[from] policy::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
