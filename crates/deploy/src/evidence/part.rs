//! The parts of an archive of evidence: files by their path, each with what it is and its digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::Digest;

use super::{Error, Result};

/// The most bytes that are gathered. A software bill of materials of a large image has some 20 MB.
pub(super) const MOST: u64 = 1 << 30;
/// The most bytes of one part.
pub(super) const LARGEST: u64 = 64 << 20;

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// The page that an auditor reads.
    Page,
    /// A lock.
    Lock,
    /// A site's description.
    Site,
    /// A receipt of `load`.
    Receipt,
    /// A report of `relocate`.
    Proof,
    /// A report of `check`.
    Check,
    /// A report of `audit`.
    Audit,
    /// A licence's text.
    Licence,
    /// A software bill of materials.
    Sbom,
    /// A signature or an attestation.
    Signature,
}

/// A part in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// Its path in the archive.
    pub path: String,
    /// What it is.
    pub kind: PartKind,
    /// What it speaks of, by reference or file name.
    pub of: String,
    /// Its sha256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

/// Parts with their content, sorted by path.
#[derive(Debug, Default)]
pub(super) struct Parts {
    all: BTreeMap<String, (PartKind, String, Vec<u8>)>,
    bytes: u64,
}

impl Parts {
    /// Takes a part in. A path that is taken gets a number.
    pub(super) fn add(
        &mut self,
        folder: &str,
        name: &str,
        kind: PartKind,
        of: &str,
        bytes: Vec<u8>,
    ) -> Result<String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST {
            return Err(Error::TooMuch { most: MOST });
        }
        let name = file_name(name);
        let mut path = format!("{folder}/{name}");
        let mut number = 2;
        while self.all.contains_key(&path) {
            path = format!("{folder}/{number}-{name}");
            number += 1;
        }
        self.all.insert(path.clone(), (kind, of.to_owned(), bytes));
        Ok(path)
    }

    /// Takes the page in, which has a path of its own.
    pub(super) fn add_page(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST {
            return Err(Error::TooMuch { most: MOST });
        }
        let page = (PartKind::Page, "all of it".to_owned(), bytes);
        self.all.insert(super::index::PAGE.to_owned(), page);
        Ok(())
    }

    /// The index of all.
    pub(super) fn index(&self) -> Vec<Part> {
        let parts = self.all.iter().map(|(path, (kind, of, bytes))| Part {
            path: path.clone(),
            kind: *kind,
            of: of.clone(),
            sha256: store::hash::sha256(bytes),
            size: bytes.len() as u64,
        });
        parts.collect()
    }

    /// Paths and content, in order.
    pub(super) fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        self.all.into_iter().map(|(path, (_, _, bytes))| (path, bytes)).collect()
    }
}

/// Any text as one file's name on any file system.
pub(super) fn file_name(text: &str) -> String {
    // With its folder it has to fit into the 100 bytes that a plain tar header has for it.
    const LONGEST: usize = 72;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    let name: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    // The end tells more than the beginning.
    let name = name[name.len().saturating_sub(LONGEST)..].trim_matches(['.', '_']);
    if name.is_empty() { "part".to_owned() } else { name.to_owned() }
}
