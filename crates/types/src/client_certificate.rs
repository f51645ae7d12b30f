//! The certificate with which a client shows a server who it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The PEM files of a client's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The certificate chain, the client's own certificate first.
    pub certificate: PathBuf,
    /// The private key; may be in the same file.
    pub key: PathBuf,
}

impl ClientCertificate {
    /// The files with paths that are relative to `folder`.
    #[must_use]
    pub fn with_paths_below(&self, folder: &Path) -> Self {
        Self { certificate: folder.join(&self.certificate), key: folder.join(&self.key) }
    }
}
