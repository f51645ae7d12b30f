//! The plan of a bundle as a value: its name, its files, and their entries with their offsets.

use types::{ByteSize, Root};

use crate::file_name::numbered_file_name;
use crate::index::BundleIndex;
use crate::tar_layout::{END_LENGTH, padded_length};
use crate::{BundleId, Error, Result};

/// The longest name or version: both are part of a file name, which has at most 255 bytes.
const MAX_NAME: usize = 100;

/// What a bundle is to carry.
#[derive(Debug, Clone)]
pub struct BundleContents {
    /// The roots; the bundle carries all content that they refer to.
    pub roots: Vec<Root>,
    /// The bytes of `gantry.lock`, carried as they are.
    pub lock: Vec<u8>,
}

/// A bundle's name and version, checked to be fit for file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleName {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl BundleName {
    /// Checks that both can be part of a file name on any system.
    pub fn new(name: &str, version: &str) -> Result<Self> {
        for text in [name, version] {
            let wrong = |reason| {
                Err(Error::Name { text: types::foreign_text::clean_excerpt(text), reason })
            };
            if text.is_empty() || text.len() > MAX_NAME {
                return wrong("it must have 1 to 100 characters");
            }
            if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte)) {
                return wrong("only letters, digits and the characters ._+- are allowed");
            }
            if text.starts_with(['.', '-']) {
                return wrong("it must not begin with a dot or a dash");
            }
        }
        Ok(Self { name: name.into(), version: version.into() })
    }

    /// The bundle's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bundle's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// `NAME-VERSION.0001.gantry`.
    pub fn file_name(&self, number: u32) -> String {
        numbered_file_name(&format!("{}-{}", self.name, self.version), number)
    }

    /// `NAME-VERSION.gantry.json`.
    pub fn manifest_name(&self) -> String {
        format!("{}-{}.gantry.json", self.name, self.version)
    }
}

/// How long a bundle file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleFileSize {
    /// One file for everything.
    Unlimited,
    /// Every file is shorter than this. (Shorter, not equal: FAT32 takes files below 4 GiB.)
    Below(ByteSize),
}

/// All files of a bundle, before they are written.
#[derive(Debug, Clone)]
pub struct PackPlan {
    pub(crate) id: BundleId,
    pub(crate) naming: BundleName,
    pub(crate) files: Vec<PlannedBundleFile>,
    pub(crate) roots: Vec<u8>,
    pub(crate) lock: Vec<u8>,
}

/// One bundle file of a plan.
#[derive(Debug, Clone)]
pub struct PlannedBundleFile {
    /// Its number, from 1.
    pub number: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Its entries; their hashes are not known yet.
    pub(crate) index: BundleIndex,
}

impl PlannedBundleFile {
    /// Where the index's data begins, and its length.
    pub(crate) fn index_location(&self) -> (u64, u64) {
        let index = &self.index;
        let long = index.count_long_digests();
        let length = BundleIndex::encoded_length(index.entries.len(), long, &index.roots);
        (self.size - END_LENGTH - padded_length(length), length)
    }
}

impl PackPlan {
    /// The bundle's id: the hash of everything that is planned.
    pub fn id(&self) -> BundleId {
        self.id
    }

    /// The bundle's name and version.
    pub fn bundle_name(&self) -> &BundleName {
        &self.naming
    }

    /// The files by number.
    pub fn files(&self) -> &[PlannedBundleFile] {
        &self.files
    }

    /// The length of all files together, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|volume| volume.size).sum()
    }
}
