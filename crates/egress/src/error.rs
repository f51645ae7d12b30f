//! What can go wrong in an audit.

use std::io;
use std::net::SocketAddr;

/// Why an audit cannot be made, or not be ended well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Corefile that is not as CoreDNS reads it.
    #[error("CoreDNS' Corefile cannot be read, line {line}: {reason}")]
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
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        cause: io::Error,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
