//! Which bundle files belong together: which are missing, of another bundle, or given twice.

use std::collections::BTreeMap;

use crate::{Error, Result, Volume};

/// The files of one bundle that were given.
#[derive(Debug, Clone)]
pub struct Set {
    /// Sorted by number, each number once.
    volumes: Vec<Volume>,
    missing: Vec<u32>,
    problems: Vec<Problem>,
}

/// A given file that does not belong with the others.
#[derive(Debug, Clone)]
pub enum Problem {
    /// It is a file of another bundle than the first one.
    OtherBundle {
        /// The file.
        volume: Volume,
        /// The first file.
        other: Volume,
    },
    /// Another file has the same number.
    Duplicate {
        /// The file.
        volume: Volume,
        /// The other file with the number.
        other: Volume,
    },
}

impl Problem {
    /// The error that describes it.
    pub fn error(&self) -> Error {
        match self {
            Self::OtherBundle { volume, other } => Error::OtherBundle {
                path: volume.path().to_owned(),
                id: volume.end().bundle,
                other: other.path().to_owned(),
                expected: other.end().bundle,
            },
            Self::Duplicate { volume, other } => Error::Duplicate {
                path: volume.path().to_owned(),
                other: other.path().to_owned(),
                number: volume.end().number,
            },
        }
    }
}

impl Set {
    /// Makes a set of opened files. The bundle is the one of the first file.
    pub fn of(volumes: Vec<Volume>) -> Result<Self> {
        let mut by_number: BTreeMap<u32, Volume> = BTreeMap::new();
        let mut problems = Vec::new();
        let first = volumes.first().cloned().ok_or(Error::NoVolume)?;
        for volume in volumes {
            if volume.end().bundle != first.end().bundle || volume.end().count != first.end().count
            {
                problems.push(Problem::OtherBundle { volume, other: first.clone() });
            } else if let Some(other) = by_number.get(&volume.end().number) {
                problems.push(Problem::Duplicate { volume, other: other.clone() });
            } else {
                by_number.insert(volume.end().number, volume);
            }
        }
        // The count comes from the file and may be anything: list missing numbers only as far as
        // file names can count.
        let most = first.end().count.min(crate::plan::MAX_VOLUMES);
        let missing = (1..=most).filter(|number| !by_number.contains_key(number)).collect();
        Ok(Self { volumes: by_number.into_values().collect(), missing, problems })
    }

    /// The files by number.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The numbers of the files that were not given.
    pub fn missing(&self) -> &[u32] {
        &self.missing
    }

    /// The files that do not belong to the set.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Checks that no file is missing.
    pub fn complete(&self) -> Result<()> {
        match self.volumes.first() {
            Some(first) if !self.missing.is_empty() => Err(Error::Missing {
                name: first.bundle_name(),
                count: first.end().count,
                numbers: self.missing.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Checks that all given files belong to the set.
    pub fn consistent(&self) -> Result<()> {
        self.problems.first().map_or(Ok(()), |problem| Err(problem.error()))
    }
}
