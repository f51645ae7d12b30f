//! What can go wrong in an audit. Every message has the next step.

use std::io;
use std::net::SocketAddr;

/// Why an audit cannot be made, or not be ended well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Corefile that is not as CoreDNS reads it.
    #[error(
        "CoreDNS' Corefile cannot be read, line {line}: {reason}; mend it, or audit without names \
         (--no-dns)"
    )]
    Corefile {
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// CoreDNS does not take up a changed Corefile.
    #[error(
        "CoreDNS does not take up a changed Corefile: the plugin `reload` is not in it. Put a line \
         `reload` into its block, or audit without names (--no-dns)"
    )]
    NoReload,
    /// The cluster's name service is none that can be sent to a sink.
    #[error("the cluster's name service cannot be sent to the sink: {reason}; {next}")]
    NameService {
        /// What it is.
        reason: String,
        /// What to do by hand.
        next: String,
    },
    /// Somebody changed CoreDNS' configuration while it was changed for the audit.
    #[error(
        "{what} was changed by somebody else during the audit, so it is left as it is; the text from \
         before is in ConfigMap {record}, key `before`: put back what is right, then delete that \
         ConfigMap"
    )]
    ChangedMeanwhile {
        /// The ConfigMap.
        what: String,
        /// Where the text from before is.
        record: String,
    },
    /// Another audit is at work.
    #[error(
        "another audit is at work in this cluster: process {pid} on {host}, since {since}; wait for \
         its end. If it is dead, put back what it changed: gantry audit restore"
    )]
    Busy {
        /// The other's machine.
        host: String,
        /// Its process.
        pid: u32,
        /// When it began.
        since: String,
    },
    /// Something of the audit's own is there that the audit did not make.
    #[error(
        "{what} is not as the audit wrote it: {reason}; look at it, and delete it if it is of no use"
    )]
    Record {
        /// Which object.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {cause}; choose an address of this machine and a free port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        cause: io::Error,
    },
    /// Manifests that cannot be read.
    #[error("{name}: the document at line {line} is no YAML: {reason}")]
    Manifests {
        /// The file.
        name: String,
        /// The line.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A report cannot be written down.
    #[error("the report cannot be written: {cause}")]
    Report {
        /// Why.
        cause: String,
    },
    /// Something of the cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Something of the policies.
    #[error(transparent)]
    Policy(#[from] policy::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
