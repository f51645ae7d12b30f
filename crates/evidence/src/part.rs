//! The files of an evidence archive, by their path: what each of them is, and its digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::Digest;

use crate::{Error, Result};

/// The path of the index in the archive.
pub(crate) const INDEX: &str = "index.json";
/// The path of its signature.
pub(crate) const SIGNATURE: &str = "index.json.minisig";
/// The path of the page.
pub(crate) const PAGE: &str = "index.html";
/// The most bytes of one archive, all of which are held in memory. The SBOM of a large image has
/// about 20 MB.
pub(crate) const MOST: u64 = 1 << 30;
/// The most bytes of one file in it.
pub(crate) const LARGEST: u64 = 64 << 20;

/// What a file of the archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidencePartKind {
    /// The HTML page that an auditor reads.
    Page,
    /// A lock file.
    Lock,
    /// A site file (`site.yaml`).
    Site,
    /// A receipt that `load` wrote.
    Receipt,
    /// A report of `relocate`: the proof that no image points outside the site.
    Proof,
    /// A report of `check`.
    Check,
    /// A report of `audit`.
    Audit,
    /// The text of a licence.
    Licence,
    /// A software bill of materials (SBOM).
    Sbom,
    /// A signature or an attestation.
    Signature,
}

/// The entry of a file in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidencePart {
    /// The path in the archive.
    pub path: String,
    /// What the file is.
    pub kind: EvidencePartKind,
    /// What it is about: an image reference, a model, or a file name.
    pub of: String,
    /// The sha256 digest.
    pub sha256: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// The files with their content, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct PartCollection {
    /// By path: what it is, what it is about, and the content.
    all: BTreeMap<String, (EvidencePartKind, String, Vec<u8>)>,
    bytes: u64,
}

impl PartCollection {
    /// Adds a file, and returns its path. If the path is taken, a number is put before the name.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if the archive would exceed its limit.
    pub(crate) fn add(
        &mut self,
        folder: &str,
        name: &str,
        kind: EvidencePartKind,
        of: &str,
        bytes: Vec<u8>,
    ) -> Result<String> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST {
            return Err(Error::TooMuch { most: MOST });
        }
        let name = make_file_name(name);
        let mut path = format!("{folder}/{name}");
        let mut number = 2;
        while self.all.contains_key(&path) {
            path = format!("{folder}/{number}-{name}");
            number += 1;
        }
        self.all.insert(path.clone(), (kind, of.to_owned(), bytes));
        Ok(path)
    }

    /// Adds the HTML page, which has a fixed path.
    pub(crate) fn add_page(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST {
            return Err(Error::TooMuch { most: MOST });
        }
        let page = (EvidencePartKind::Page, "the whole archive".to_owned(), bytes);
        self.all.insert(PAGE.to_owned(), page);
        Ok(())
    }

    /// Lists all files with their digests, sorted by path.
    pub(crate) fn list_parts(&self) -> Vec<EvidencePart> {
        let parts = self.all.iter().map(|(path, (kind, of, bytes))| EvidencePart {
            path: path.clone(),
            kind: *kind,
            of: of.clone(),
            sha256: store::hash::sha256(bytes),
            size: bytes.len() as u64,
        });
        parts.collect()
    }

    /// Returns path and content of all files, sorted by path.
    pub(crate) fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        self.all.into_iter().map(|(path, (_, _, bytes))| (path, bytes)).collect()
    }
}

/// Turns any text into a file name that is valid on any file system.
pub(crate) fn make_file_name(text: &str) -> String {
    // With its folder it has to fit into the 100 bytes for a name in a ustar header, since
    // `archive` refuses the extensions for longer names.
    const LONGEST: usize = 72;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    let name: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    // Of a long reference the end, with tag or digest, distinguishes more than the beginning.
    let name = name[name.len().saturating_sub(LONGEST)..].trim_matches(['.', '_']);
    if name.is_empty() { "part".to_owned() } else { name.to_owned() }
}
