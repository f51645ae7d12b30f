//! Verifies evidence, possibly years later: the signature over the index, then every file against
//! the index.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use crate::index::EvidenceIndex;
use crate::part;
use crate::sign::{self, TrustedKey};
use crate::{Error, Result, archive};

/// The result of checking the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum SignatureStatus {
    /// It is valid, and made with a trusted key.
    Good {
        /// The key's id.
        key: String,
        /// The trusted comment, which the signature covers.
        comment: String,
    },
    /// There is one, but no key was given to verify it with.
    NotChecked {
        /// The id of the key that it names, if it can be read.
        key: Option<String>,
    },
    /// There is none, and no trusted key was given.
    None,
}

/// Evidence that is complete and unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEvidence {
    /// Its index.
    pub index: EvidenceIndex,
    /// Its signature.
    pub signature: SignatureStatus,
}

/// Verifies an archive or a folder: every file in the index is there and unchanged, and there is no
/// other file. With trusted keys the index has to be signed by one of them. Blocks on the disk.
///
/// # Errors
/// [`Error::Altered`] and [`Error::Untrusted`], and whatever keeps it from being read.
pub fn verify_evidence(path: &Path, trusted: &[TrustedKey]) -> Result<VerifiedEvidence> {
    let mut files = archive::read_files(path)?;
    let shown = path.display().to_string();
    let altered = |what: &str, reason: String| Error::Altered { what: what.to_owned(), reason };
    let text = files.remove(part::INDEX).ok_or_else(|| {
        altered(
            &shown,
            format!("it contains no {}, so it is not evidence that Gantry wrote", part::INDEX),
        )
    })?;
    let signature = files.remove(part::SIGNATURE);
    let signature = signature.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // First of all: nothing in the index may be believed, or even parsed, before.
    let signature = match (signature, trusted) {
        (Some(signature), []) => {
            SignatureStatus::NotChecked { key: sign::read_signer_id(&signature) }
        }
        (Some(signature), trusted) => {
            let (key, comment) = sign::check_signature(&text, &signature, trusted)?;
            SignatureStatus::Good { key, comment }
        }
        (None, []) => SignatureStatus::None,
        (None, _) => {
            let reason = "there is no signature".to_owned();
            return Err(Error::Untrusted { reason, cause: None });
        }
    };
    let index = EvidenceIndex::parse(&text)?;
    let mut known = BTreeSet::new();
    for part in &index.parts {
        let bytes = files
            .get(&part.path)
            .ok_or_else(|| altered(&part.path, "it is in the index, but missing".to_owned()))?;
        if store::hash::sha256(bytes) != part.sha256 || bytes.len() as u64 != part.size {
            return Err(altered(&part.path, "its content differs from the index".to_owned()));
        }
        known.insert(part.path.as_str());
    }
    match files.keys().find(|path| !known.contains(path.as_str())) {
        Some(extra) => Err(altered(extra, "it is not in the index".to_owned())),
        None => Ok(VerifiedEvidence { index, signature }),
    }
}
