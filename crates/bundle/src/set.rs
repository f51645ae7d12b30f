//! Which volumes belong together: what is missing, foreign or given twice.

use std::collections::BTreeMap;

use crate::{Error, Result, Volume};

/// Volumes of one bundle.
#[derive(Debug, Clone)]
pub struct Set {
    /// By number, each once.
    volumes: Vec<Volume>,
    missing: Vec<u32>,
    problems: Vec<Problem>,
}

/// A volume that does not belong with the others.
#[derive(Debug, Clone)]
pub enum Problem {
    /// It is of another bundle than the first one.
    OtherBundle {
        /// The volume.
        volume: Volume,
        /// The first one.
        other: Volume,
    },
    /// Its number was there already.
    Duplicate {
        /// The volume.
        volume: Volume,
        /// The one that has the number.
        other: Volume,
    },
}

impl Problem {
    /// As an error.
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
    /// Sorts volumes in. The bundle is that of the first one.
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
        // A count is from outside: what is missing is listed no further than file names count.
        let most = first.end().count.min(crate::plan::MAX_VOLUMES);
        let missing = (1..=most).filter(|number| !by_number.contains_key(number)).collect();
        Ok(Self { volumes: by_number.into_values().collect(), missing, problems })
    }

    /// The volumes by number.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// Numbers of the volumes that were not given.
    pub fn missing(&self) -> &[u32] {
        &self.missing
    }

    /// Volumes that do not belong here.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The error of a set that is not complete.
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

    /// The error of a set with volumes that do not belong here.
    pub fn consistent(&self) -> Result<()> {
        self.problems.first().map_or(Ok(()), |problem| Err(problem.error()))
    }
}
