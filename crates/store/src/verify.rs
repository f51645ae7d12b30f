//! Verification of a whole store: every blob is hashed once, and every root is walked for missing
//! content.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use types::{Digest, Reference};

use crate::closure::survey_root;
use crate::folder::blob_file;
use crate::hash::DigestHasher;
use crate::progress::Progress;
use crate::{Error, Result, Store};

/// The read buffer of each thread: large reads keep a spinning disk from seeking between threads.
const BUFFER: usize = 1 << 20;

/// What to do with a blob whose bytes do not match its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagePolicy {
    /// Keep it, for a person to look at.
    Keep,
    /// Remove it, so that the next fetch or load writes it again.
    Remove,
}

/// The result of [`Store::verify`].
#[derive(Debug, Default)]
pub struct StoreVerification {
    /// How many blobs were hashed.
    pub blobs: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many roots were walked.
    pub roots: u64,
    /// Blobs whose bytes do not match their digest, sorted by digest.
    pub damaged: Vec<DamagedBlob>,
    /// Roots with missing content, sorted by name; damaged blobs are not repeated here.
    pub broken: Vec<BrokenRoot>,
}

impl StoreVerification {
    /// Whether nothing is damaged or missing.
    pub fn is_intact(&self) -> bool {
        self.damaged.is_empty() && self.broken.is_empty()
    }
}

/// A blob whose bytes do not match its digest.
#[derive(Debug)]
pub struct DamagedBlob {
    /// The digest that names the blob.
    pub digest: Digest,
    /// What is wrong with it.
    pub fault: BlobFault,
    /// The roots that need it.
    pub needed_by: Vec<Reference>,
}

/// What is wrong with a blob.
#[derive(Debug)]
pub enum BlobFault {
    /// Its bytes have this digest.
    Content(Digest),
    /// The disk cannot read its bytes.
    Unreadable(io::Error),
}

/// A root with missing content.
#[derive(Debug)]
pub struct BrokenRoot {
    /// The root's name.
    pub name: Reference,
    /// What is missing, has another length, or does not parse.
    pub problems: Vec<Error>,
}

impl Store {
    /// Hashes every blob once, on `threads` threads, and walks every root. Damage is part of the
    /// result, not an error.
    pub fn verify(
        &self,
        damage: DamagePolicy,
        threads: NonZeroUsize,
        progress: &dyn Progress,
    ) -> Result<StoreVerification> {
        let _session = match damage {
            DamagePolicy::Remove => self.open_session()?,
            DamagePolicy::Keep => self.open_read_session()?,
        };
        let mut blobs = self.list_blobs()?;
        // The largest first, so that no thread ends with a large one while the others are idle.
        blobs.sort_by_key(|(digest, size)| (std::cmp::Reverse(*size), *digest));
        let bytes = blobs.iter().map(|(_, size)| size).sum();
        progress.expect_bytes(bytes);
        let faults = self.hash_blobs(&blobs, threads, progress);

        let mut found =
            StoreVerification { blobs: blobs.len() as u64, bytes, ..Default::default() };
        let mut needed_by: BTreeMap<Digest, BTreeSet<Reference>> = BTreeMap::new();
        for root in self.roots()? {
            found.roots += 1;
            let survey = survey_root(self, &root);
            for digest in survey.named.iter().filter(|digest| faults.contains_key(digest)) {
                needed_by.entry(*digest).or_default().insert(root.name.clone());
            }
            let problems: Vec<Error> = survey
                .problems
                .into_iter()
                // A damaged manifest does not parse; it is listed as damaged already.
                .filter(|(descriptor, _)| !faults.contains_key(&descriptor.digest))
                .map(|(_, error)| error)
                .collect();
            if !problems.is_empty() {
                found.broken.push(BrokenRoot { name: root.name, problems });
            }
        }
        for (digest, fault) in faults {
            if damage == DamagePolicy::Remove {
                // Only after the walk above, which reads manifests that may be among the damaged blobs.
                self.remove_file(&blob_file(&digest))?;
            }
            let needed_by = needed_by.remove(&digest).unwrap_or_default().into_iter().collect();
            found.damaged.push(DamagedBlob { digest, fault, needed_by });
        }
        Ok(found)
    }

    fn hash_blobs(
        &self,
        blobs: &[(Digest, u64)],
        threads: NonZeroUsize,
        progress: &dyn Progress,
    ) -> BTreeMap<Digest, BlobFault> {
        // The threads take the next blob each from one counter: blobs differ in size by six orders of
        // magnitude, so any fixed split would leave most threads idle.
        let next = AtomicUsize::new(0);
        let faults = Mutex::new(BTreeMap::new());
        let work = || {
            let mut buffer = vec![0; BUFFER];
            while let Some((digest, _)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fault = match self.hash_blob(digest, &mut buffer, progress) {
                    Ok(actual) if actual == *digest => continue,
                    Ok(actual) => BlobFault::Content(actual),
                    // Removed since the blobs were listed: the walk finds out whether it is needed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => BlobFault::Unreadable(error),
                };
                // Rarely locked: only for damaged blobs.
                faults.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest, fault);
            }
        };
        std::thread::scope(|scope| {
            // This thread works too.
            for _ in 1..threads.get().min(blobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        faults.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash_blob(
        &self,
        digest: &Digest,
        buffer: &mut [u8],
        progress: &dyn Progress,
    ) -> io::Result<Digest> {
        let mut file = self.folder().open_file(blob_file(digest))?;
        let mut hash = DigestHasher::for_digest(digest);
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(hash.finish()),
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    progress.advance_bytes(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
