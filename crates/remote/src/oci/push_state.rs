//! What a push has learnt so far; shared by all its concurrent transfers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::Mutex;
use types::{Digest, Reference, Root};

/// A root that has another digest in the registry: mostly an index that was rewritten for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrittenIndex {
    /// The root's name at the source.
    pub name: Reference,
    /// Its digest at the source.
    pub from: Digest,
    /// Its digest in the registry.
    pub to: Digest,
    /// Whether it lists the manifests of nested indexes itself, since the registry refuses those.
    pub flattened: bool,
    /// Whether it, or a manifest that it lists, is kept under its sha256, since the registry keeps no
    /// manifest under a digest of another algorithm.
    pub renamed: bool,
}

/// A manifest that the registry does not take: an attestation in an index, or what is attached to an
/// image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutManifest {
    /// The name of the root that it is, or is part of.
    pub name: Reference,
    /// Its digest.
    pub digest: Digest,
    /// The registry's message.
    pub reason: String,
}

/// What a push has learnt so far.
#[derive(Default)]
pub(super) struct PushState {
    /// The digests that the registry had under the names of roots when the push began.
    pub(super) found: HashMap<Reference, Option<Digest>>,
    /// The repositories that are known to have a blob, from which it can be mounted.
    pub(super) repositories: HashMap<Digest, Vec<String>>,
    /// For each root the manifests that its index lists and the source does not have.
    pub(super) sparse: HashMap<Reference, HashSet<Digest>>,
    /// For each root the manifests of its index that the registry does not take.
    pub(super) refused: HashMap<Reference, HashSet<Digest>>,
    /// For each root the indexes within its index that the registry refuses, with their bytes.
    pub(super) flattened: HashMap<Reference, HashMap<Digest, Vec<u8>>>,
    /// For each root the manifests of its index that the registry only keeps under another digest.
    pub(super) renamed: HashMap<Reference, HashMap<Digest, Digest>>,
    /// Which manifests a repository has by this push, by repository and digest.
    pub(super) pushed: HashMap<(String, Digest), Arc<Mutex<bool>>>,
    pub(super) rewritten: Vec<RewrittenIndex>,
    pub(super) left_out: Vec<LeftOutManifest>,
}

impl PushState {
    pub(super) fn leave_out(&mut self, root: &Root, digest: Digest, cause: &net::Error) {
        let (name, reason) = (root.name.clone(), cause.to_string());
        self.left_out.push(LeftOutManifest { name, digest, reason });
    }
}
