//! The two JSON documents of a bundle: `volume.json` in each bundle file, and the bundle's
//! manifest, which is in the last file and also written next to the files.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::Cause;

use crate::tar_layout::pad_document;
use crate::{BundleId, BundleName, Error, FORMAT, PackPlan, Result};

/// The longest of these documents that is read. A manifest of 9999 bundle files takes 2 MB.
pub(crate) const MAX_DOCUMENT: u64 = 16 << 20;
/// The oldest Gantry that reads what this one writes.
const NEEDS: &str = "0.1.0";

/// `gantry/volume.json`: which file of which bundle this is. Unknown keys are ignored; what a
/// reader must know is in the end record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFileDocument {
    /// The format, 1.
    pub format: u32,
    /// The oldest Gantry version that can read the bundle file.
    pub needs: String,
    /// The bundle's id.
    pub bundle: BundleId,
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// This file's number, from 1.
    pub number: u32,
    /// How many files the bundle has.
    pub count: u32,
    /// This file's length in bytes.
    pub size: u64,
}

impl BundleFileDocument {
    /// The document's bytes, padded so that their length does not depend on the numbers in it: the
    /// plan must know it before sizes are known.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        // The longest numbers give the longest JSON; 1 more byte for the line break at the end.
        let longest = Self { number: u32::MAX, count: u32::MAX, size: u64::MAX, ..self.clone() };
        let reserve = encode_json(&longest)?.len() as u64 + 1;
        Ok(pad_document(encode_json(self)?, reserve))
    }

    /// The document of one planned bundle file.
    pub(crate) fn from_plan(plan: &PackPlan, number: u32, size: u64) -> Self {
        Self {
            format: FORMAT,
            needs: NEEDS.into(),
            bundle: plan.id,
            name: plan.naming.name().into(),
            version: plan.naming.version().into(),
            number,
            count: plan.files.len() as u32,
            size,
        }
    }
}

/// The bundle's manifest, which lists all its files: `gantry/bundle.json` in the last file, and
/// `NAME-VERSION.gantry.json` next to the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// The format, 1.
    pub format: u32,
    /// The oldest Gantry version that can read the bundle.
    pub needs: String,
    /// The bundle's id.
    pub bundle: BundleId,
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// All files, by number.
    pub volumes: Vec<BundleManifestFile>,
}

/// One file in a [`BundleManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleManifestFile {
    /// The file's name.
    pub file: String,
    /// Its length in bytes.
    pub size: u64,
    /// The BLAKE3 hash of its index in hex. Absent for the last file in the manifest that this file
    /// itself carries: its end record has the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

impl BundleManifest {
    /// The manifest of a plan, with the index hashes of the files that are written so far.
    pub(crate) fn from_plan(plan: &PackPlan, hashes: &[blake3::Hash]) -> Self {
        let volumes = plan.files.iter().enumerate().map(|(at, volume)| BundleManifestFile {
            file: plan.naming.file_name(volume.number),
            size: volume.size,
            index: hashes.get(at).map(|hash| hash.to_hex().to_string()),
        });
        Self {
            format: FORMAT,
            needs: NEEDS.into(),
            bundle: plan.id,
            name: plan.naming.name().into(),
            version: plan.naming.version().into(),
            volumes: volumes.collect(),
        }
    }

    /// The bytes of the manifest that is written next to the bundle files.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(encoding_error)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The bytes of the manifest in the last file, padded so that their length does not depend on
    /// sizes.
    pub(crate) fn encode_padded(&self) -> Result<Vec<u8>> {
        Ok(pad_document(encode_json(self)?, self.reserved_length()?))
    }

    /// The length of [`Self::encode_padded`], which the plan needs before sizes are known.
    pub(crate) fn padded_length(&self) -> Result<u64> {
        Ok(pad_document(Vec::new(), self.reserved_length()?).len() as u64)
    }

    fn reserved_length(&self) -> Result<u64> {
        let mut longest = self.clone();
        for volume in &mut longest.volumes {
            volume.size = u64::MAX;
            volume.index = Some("0".repeat(2 * blake3::OUT_LEN));
        }
        Ok(encode_json(&longest)?.len() as u64 + 1)
    }

    /// Reads the manifest next to the bundle files.
    pub fn read(path: &Path) -> Result<Self> {
        let read = |cause| Error::Read { what: path.display().to_string(), cause };
        // The length is checked before anything is read: the path may name any file.
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > MAX_DOCUMENT {
            return Err(invalid_document(
                path,
                "the manifest",
                "is too long to be a bundle's manifest",
            ));
        }
        let bytes = std::fs::read(path).map_err(read)?;
        parse_document(path, "the manifest", &bytes)
    }

    /// The paths of all bundle files, which are next to the manifest at `path`. File names are
    /// built from the checked name, version and number, so that a hostile manifest cannot point
    /// elsewhere.
    pub fn file_paths(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let naming = BundleName::new(&self.name, &self.version)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let numbers = 1..=self.volumes.len() as u32;
        Ok(numbers.map(|number| folder.join(naming.file_name(number))).collect())
    }
}

/// Parses one of the documents. For error messages, `path` is the file that holds it and `what` its
/// name.
pub(crate) fn parse_document<T: serde::de::DeserializeOwned>(
    path: &Path,
    what: &str,
    bytes: &[u8],
) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| invalid_document(path, what, Cause::about("is not valid", error)))
}

pub(crate) fn invalid_document(path: &Path, what: &str, reason: impl Into<Cause>) -> Error {
    Error::Document { path: path.to_owned(), document: what.into(), reason: reason.into() }
}

fn encode_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(encoding_error)
}

fn encoding_error(error: serde_json::Error) -> Error {
    Error::Write { what: "a document of the bundle".into(), cause: std::io::Error::other(error) }
}
