//! Is everything still what it was? Every blob is hashed once, every root walked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use types::{Digest, Reference};

use crate::closure::survey;
use crate::gc::remove;
use crate::hash::Sha256;
use crate::progress::Progress;
use crate::{Error, Result, Store};

/// The buffer of each thread.
const BUFFER: usize = 1 << 20;

/// What is done with a blob whose bytes are not those of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It stays, for a person to look at.
    Keep,
    /// It is removed, so that the next fetch or load brings it again.
    Remove,
}

/// What [`Store::verify`] found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Blobs that were hashed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Roots that were walked.
    pub roots: u64,
    /// Blobs that are not what their name says, sorted by digest.
    pub damaged: Vec<Damaged>,
    /// Roots that lack something, sorted by name; what is damaged is not repeated here.
    pub broken: Vec<BrokenRoot>,
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.broken.is_empty()
    }
}

/// A blob that is not what its name says.
#[derive(Debug)]
pub struct Damaged {
    /// The blob's name.
    pub digest: Digest,
    /// What is wrong with it.
    pub fault: Fault,
    /// The roots that need it.
    pub needed_by: Vec<Reference>,
}

/// What is wrong with a blob.
#[derive(Debug)]
pub enum Fault {
    /// Its bytes have this digest.
    Content(Digest),
    /// The disk does not give its bytes.
    Unreadable(io::Error),
}

/// A root that lacks something.
#[derive(Debug)]
pub struct BrokenRoot {
    /// Its name.
    pub name: Reference,
    /// What is missing, has another length, or does not parse.
    pub problems: Vec<Error>,
}

impl Store {
    /// Hashes every blob once, on `threads` threads, and walks every root. Damage is a finding,
    /// not an error.
    pub fn verify(
        &self,
        damage: Damage,
        threads: NonZeroUsize,
        progress: &dyn Progress,
    ) -> Result<Verification> {
        let _session = self.session()?;
        let mut blobs = self.blobs()?;
        // The largest first, so that no thread ends with a large one while the others are idle.
        blobs.sort_by_key(|(digest, size)| (std::cmp::Reverse(*size), *digest));
        let bytes = blobs.iter().map(|(_, size)| size).sum();
        progress.expect(bytes);
        let faults = self.hash_all(&blobs, threads, progress);

        let mut found = Verification { blobs: blobs.len() as u64, bytes, ..Default::default() };
        let mut needed_by: BTreeMap<Digest, BTreeSet<Reference>> = BTreeMap::new();
        for root in self.roots()? {
            found.roots += 1;
            let survey = survey(self, &root);
            for digest in survey.named.iter().filter(|digest| faults.contains_key(digest)) {
                needed_by.entry(*digest).or_default().insert(root.name.clone());
            }
            let problems: Vec<Error> = survey
                .problems
                .into_iter()
                .filter(|(descriptor, _)| !faults.contains_key(&descriptor.digest))
                .map(|(_, error)| error)
                .collect();
            if !problems.is_empty() {
                found.broken.push(BrokenRoot { name: root.name, problems });
            }
        }
        for (digest, fault) in faults {
            if damage == Damage::Remove {
                remove(&self.blob_path(&digest))?;
            }
            let needed_by = needed_by.remove(&digest).unwrap_or_default().into_iter().collect();
            found.damaged.push(Damaged { digest, fault, needed_by });
        }
        Ok(found)
    }

    fn hash_all(
        &self,
        blobs: &[(Digest, u64)],
        threads: NonZeroUsize,
        progress: &dyn Progress,
    ) -> BTreeMap<Digest, Fault> {
        let next = AtomicUsize::new(0);
        let faults = Mutex::new(BTreeMap::new());
        let work = || {
            let mut buffer = vec![0; BUFFER];
            while let Some((digest, _)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fault = match self.rehash(digest, &mut buffer, progress) {
                    Ok(actual) if actual == *digest => continue,
                    Ok(actual) => Fault::Content(actual),
                    // Removed since the blobs were listed: the walk of the roots tells if it lacks.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => Fault::Unreadable(error),
                };
                faults.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, fault);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.get().min(blobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        faults.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn rehash(
        &self,
        digest: &Digest,
        buffer: &mut [u8],
        progress: &dyn Progress,
    ) -> io::Result<Digest> {
        let mut file = File::open(self.blob_path(digest))?;
        let mut hash = Sha256::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(hash.finish()),
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    progress.advance(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
