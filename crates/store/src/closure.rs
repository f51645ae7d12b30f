//! What a root needs: the walk from its manifest or index down to configs and layers.
//!
//! For an index of two platforms of which only one was chosen:
//!
//! ```text
//! index ─┬─ manifest linux/amd64 ─┬─ config      manifests: [linux/amd64, index]
//!        │                        └─ layer       blobs:     [config, layer]
//!        └─ manifest linux/arm64 (missing)       sparse:    [linux/arm64]
//! ```

use std::collections::HashSet;

use types::{Descriptor, Digest, Manifest, Root};

use crate::{Error, Result, Source, read_blob};

/// How deep indexes in indexes are followed. Real ones have one level; a hostile source could
/// otherwise make the walk, and its stack, as long as it likes.
const MAX_DEPTH: usize = 8;

/// All content of one root, each digest once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootClosure {
    /// Manifests and indexes, leaves first; the last one is the root's own.
    pub manifests: Vec<Descriptor>,
    /// Configs and layers, in the order in which the manifests name them.
    pub blobs: Vec<Descriptor>,
    /// What is named but not here on purpose: manifests of platforms that were not chosen, layers that
    /// may not be distributed.
    pub sparse: Vec<Descriptor>,
}

impl RootClosure {
    /// The bytes of all manifests and blobs that are here.
    pub fn size(&self) -> u64 {
        self.manifests.iter().chain(&self.blobs).map(|descriptor| descriptor.size).sum()
    }

    /// All descriptors that are here: blobs first, then manifests, leaves first. Written in this order,
    /// nothing is there before what it needs.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.iter().chain(&self.manifests)
    }
}

/// Finds everything that the root needs, and checks that the source has it. A missing child of an
/// index is listed as sparse; anything else that is missing is [`Error::BlobMissing`], another length
/// [`Error::SizeMismatch`].
pub fn find_closure(source: &dyn Source, root: &Root) -> Result<RootClosure> {
    let mut walk = ClosureWalk::new(source);
    walk.visit_descriptor(&root.descriptor, AbsencePolicy::Error, 0);
    match walk.problems.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(walk.closure),
    }
}

/// What a root names and what of it is missing or wrong, as far as it can be followed.
pub(crate) struct RootSurvey {
    /// Every digest that the root names, whether it is here or not.
    pub(crate) named: HashSet<Digest>,
    /// What is missing or wrong, and why.
    pub(crate) problems: Vec<(Descriptor, Error)>,
}

/// Walks the root as [`find_closure`] does, but does not stop at what is missing or wrong.
pub(crate) fn survey_root(source: &dyn Source, root: &Root) -> RootSurvey {
    let mut walk = ClosureWalk { goes_on: true, ..ClosureWalk::new(source) };
    walk.visit_descriptor(&root.descriptor, AbsencePolicy::Error, 0);
    let problems: HashSet<Digest> = walk.problems.iter().map(|(d, _)| d.digest).collect();
    let sparse = walk.closure.sparse.iter().map(|descriptor| descriptor.digest);
    // Sparse and damaged content counts as named: garbage collection must not remove a blob that is
    // needed and was only misread.
    let named = walk.seen.iter().copied().chain(sparse).chain(problems).collect();
    RootSurvey { named, problems: walk.problems }
}

struct ClosureWalk<'a> {
    source: &'a dyn Source,
    seen: HashSet<Digest>,
    /// The digests of `closure.sparse`: a hostile index names a hundred thousand that are missing.
    sparse: HashSet<Digest>,
    closure: RootClosure,
    problems: Vec<(Descriptor, Error)>,
    /// Whether the walk goes on after the first problem.
    goes_on: bool,
}

/// What it means that the content of a descriptor is missing.
#[derive(Clone, Copy)]
enum AbsencePolicy {
    Error,
    Sparse,
}

impl<'a> ClosureWalk<'a> {
    fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            seen: HashSet::new(),
            sparse: HashSet::new(),
            closure: RootClosure::default(),
            problems: Vec::new(),
            goes_on: false,
        }
    }

    fn visit_descriptor(&mut self, descriptor: &Descriptor, absence: AbsencePolicy, depth: usize) {
        // Platforms share layers, and a hostile index could name one manifest a million times.
        if self.seen.contains(&descriptor.digest) || self.is_stopped() {
            return;
        }
        if let Err(error) = self.visit_unseen_descriptor(descriptor, absence, depth) {
            self.problems.push((descriptor.clone(), error));
        }
    }

    fn is_stopped(&self) -> bool {
        !self.goes_on && !self.problems.is_empty()
    }

    fn visit_unseen_descriptor(
        &mut self,
        descriptor: &Descriptor,
        absence: AbsencePolicy,
        depth: usize,
    ) -> Result<()> {
        let digest = descriptor.digest;
        match (self.source.blob_size(&digest)?, absence) {
            (None, AbsencePolicy::Sparse) => {
                // Not marked as seen: another manifest may need it for certain.
                if self.sparse.insert(digest) {
                    self.closure.sparse.push(descriptor.clone());
                }
                return Ok(());
            }
            (None, AbsencePolicy::Error) => return Err(Error::BlobMissing { digest }),
            (Some(actual), _) if actual != descriptor.size => {
                return Err(Error::SizeMismatch { digest, expected: descriptor.size, actual });
            }
            (Some(_), _) => {}
        }
        // Only now: what failed above is tried again where another manifest names it.
        self.seen.insert(digest);
        if !descriptor.is_manifest() {
            self.closure.blobs.push(descriptor.clone());
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { digest, most: MAX_DEPTH });
        }
        // The bytes are parsed without hashing: the source verified them when it was filled.
        let bytes = read_blob(self.source, &digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&digest.to_string(), &bytes)?;
        // An index may lack platforms that were not chosen; a manifest may lack none of its blobs.
        for child in &manifest.manifests {
            self.visit_descriptor(child, AbsencePolicy::Sparse, depth + 1);
        }
        for blob in manifest.blobs() {
            let absence =
                if may_be_absent(blob) { AbsencePolicy::Sparse } else { AbsencePolicy::Error };
            self.visit_descriptor(blob, absence, depth + 1);
        }
        // After everything that it names, so that the list has the leaves first.
        self.closure.manifests.push(descriptor.clone());
        Ok(())
    }
}

/// Layers that registries do not hold, such as Windows base layers (image-spec 1.1, layer.md,
/// "Non-Distributable Layers"; docker's word for them is "foreign").
fn may_be_absent(blob: &Descriptor) -> bool {
    blob.media_type.contains(".nondistributable.") || blob.media_type.contains(".foreign.")
}
