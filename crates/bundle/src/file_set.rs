//! Which bundle files belong together: which are missing, of another bundle, or given twice.

use std::collections::BTreeMap;

use crate::{BundleFile, Error, Result};

/// The files of one bundle that were given.
#[derive(Debug, Clone)]
pub struct BundleFileSet {
    /// Sorted by number, each number once.
    files: Vec<BundleFile>,
    missing: Vec<u32>,
    misplaced: Vec<MisplacedBundleFile>,
}

/// A given file that does not belong with the others.
#[derive(Debug, Clone)]
pub enum MisplacedBundleFile {
    /// It is a file of another bundle than the first one.
    OtherBundle {
        /// The file.
        volume: BundleFile,
        /// The first file.
        other: BundleFile,
    },
    /// Another file has the same number.
    Duplicate {
        /// The file.
        volume: BundleFile,
        /// The other file with the number.
        other: BundleFile,
    },
}

impl MisplacedBundleFile {
    /// The error that describes it.
    pub fn to_error(&self) -> Error {
        match self {
            Self::OtherBundle { volume, other } => Error::OtherBundle {
                path: volume.path().to_owned(),
                id: volume.end_record().bundle,
                other: other.path().to_owned(),
                expected: other.end_record().bundle,
            },
            Self::Duplicate { volume, other } => Error::Duplicate {
                path: volume.path().to_owned(),
                other: other.path().to_owned(),
                number: volume.end_record().number,
            },
        }
    }
}

impl BundleFileSet {
    /// Makes a set of opened files. The bundle is the one of the first file.
    pub fn from_files(volumes: Vec<BundleFile>) -> Result<Self> {
        let mut by_number: BTreeMap<u32, BundleFile> = BTreeMap::new();
        let mut problems = Vec::new();
        let first = volumes.first().cloned().ok_or(Error::NoFiles)?;
        for volume in volumes {
            if volume.end_record().bundle != first.end_record().bundle
                || volume.end_record().count != first.end_record().count
            {
                problems.push(MisplacedBundleFile::OtherBundle { volume, other: first.clone() });
            } else if let Some(other) = by_number.get(&volume.end_record().number) {
                problems.push(MisplacedBundleFile::Duplicate { volume, other: other.clone() });
            } else {
                by_number.insert(volume.end_record().number, volume);
            }
        }
        // The count comes from the file and may be anything: list missing numbers only as far as
        // file names can count.
        let most = first.end_record().count.min(crate::plan::MAX_VOLUMES);
        let missing = (1..=most).filter(|number| !by_number.contains_key(number)).collect();
        Ok(Self { files: by_number.into_values().collect(), missing, misplaced: problems })
    }

    /// The files by number.
    pub fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// The numbers of the files that were not given.
    pub fn missing_numbers(&self) -> &[u32] {
        &self.missing
    }

    /// The names of the files that were not given, in the order of their numbers.
    pub fn missing_names(&self) -> Vec<String> {
        let name = self.files.first().map(BundleFile::bundle_name).unwrap_or_default();
        let numbers = self.missing.iter();
        numbers.map(|number| crate::file_name::numbered_file_name(&name, *number)).collect()
    }

    /// The files that do not belong to the set.
    pub fn misplaced(&self) -> &[MisplacedBundleFile] {
        &self.misplaced
    }

    /// Checks that no file is missing.
    pub fn check_complete(&self) -> Result<()> {
        match self.files.first() {
            Some(first) if !self.missing.is_empty() => Err(Error::Missing {
                name: first.bundle_name(),
                count: first.end_record().count,
                numbers: self.missing.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Checks that all given files belong to the set.
    pub fn check_consistent(&self) -> Result<()> {
        self.misplaced.first().map_or(Ok(()), |problem| Err(problem.to_error()))
    }
}
