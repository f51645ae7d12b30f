//! Manifests that a registry keeps under another digest than their own: docker-registry 2.8 takes blobs
//! under a sha512, and knows manifests by their sha256 alone. The bytes are the same, so such a registry
//! gets them under that.

use std::collections::HashMap;

use store::RootClosure;
use types::{Digest, DigestAlgorithm, Reference, Root};

use super::push::{RegistrySink, SparsePolicy};
use super::push_state::RewrittenIndex;
use crate::Result;

impl RegistrySink {
    /// The manifests of a root that the registry has under another digest, with that digest.
    pub(super) fn renamed_manifests(&self, root: &Root) -> HashMap<Digest, Digest> {
        self.lock_state().renamed.get(&root.name).cloned().unwrap_or_default()
    }

    /// Whether a manifest may be pushed under its sha256, after the registry refused it under its own
    /// digest.
    pub(super) fn may_rename(&self, digest: &Digest, refused: &net::Error) -> bool {
        self.policy != SparsePolicy::Keep
            && digest.algorithm() != DigestAlgorithm::Sha256
            && is_refused_digest(refused)
    }

    /// Records that the registry has a root's manifest under its sha256 and not under the digest that it
    /// has at the source, where that is so. Asks only for digests of other algorithms.
    pub(super) async fn record_kept_digest(
        &self,
        root: &Root,
        target: &Reference,
        bytes: &[u8],
    ) -> Result<()> {
        let from = root.descriptor.digest;
        if from.algorithm() == DigestAlgorithm::Sha256
            || self.find_pushed_digest(&target.with_digest(from)).await?.is_some()
        {
            return Ok(());
        }
        let (name, to) = (root.name.clone(), store::hash::sha256(bytes));
        let rewritten = RewrittenIndex { name, from, to, flattened: false, renamed: true };
        self.lock_state().rewritten.push(rewritten);
        Ok(())
    }

    /// Whether the registry has all that a root lists, of which it has the manifest's bytes under its
    /// name.
    pub(super) async fn holds_kept_bytes(
        &self,
        root: &Root,
        name: &Reference,
        bytes: &[u8],
        needs: &RootClosure,
    ) -> Result<bool> {
        let own = root.descriptor.digest;
        for manifest in needs.manifests.iter().filter(|manifest| manifest.digest != own) {
            if self.find_pushed_digest(&name.with_digest(manifest.digest)).await?.is_none() {
                return Ok(false);
            }
        }
        self.record_kept_digest(root, name, bytes).await?;
        Ok(true)
    }
}

/// Whether a registry refuses a manifest for its digest; docker-registry 2.8 answers `DIGEST_INVALID`.
fn is_refused_digest(cause: &net::Error) -> bool {
    matches!(cause, net::Error::Status { status: 400 | 404 | 405 | 415 | 422, message, .. }
        if !message.contains("BLOB_UNKNOWN"))
}
