//! A file that goes into the archive as it is: a lock, a site file, a receipt, a report.

use std::path::Path;

use crate::part::{EvidencePartKind, LARGEST};
use crate::{Error, Result};

/// A file that is added unchanged.
#[derive(Debug, Clone)]
pub struct EvidenceDocument {
    /// What the file is.
    pub kind: EvidencePartKind,
    /// The file name, without folders.
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl EvidenceDocument {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is larger than one file of the archive may be.
    pub fn read(kind: EvidencePartKind, path: &Path) -> Result<Self> {
        let failed = |cause| Error::Read { path: path.to_owned(), cause };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > LARGEST {
            return Err(Error::TooMuch { most: LARGEST });
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        Ok(Self { kind, name: base_name(path), bytes })
    }
}

/// The last segment of a path, as the name of a document.
fn base_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
