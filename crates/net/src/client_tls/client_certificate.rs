//! The certificate with which a client shows a server who it is.

use std::path::PathBuf;

/// The PEM files of a client's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientCertificate {
    /// The certificate chain, the client's own certificate first.
    pub certificate: PathBuf,
    /// The private key; may be in the same file.
    pub key: PathBuf,
}
