//! The trait [`Sink`]: anything that roots can be loaded into.

use std::future::Future;
use std::sync::Arc;

use types::{Descriptor, Root};

use crate::{RootClosure, Source};

/// Called with the number of bytes that were transferred since the last call. Shared, because a sink
/// may call it from a thread of its own.
pub type TransferCallback = Arc<dyn Fn(u64) + Send + Sync>;

/// Receives roots with everything they need, from a [`Source`].
///
/// The caller (`land`) walks each root, puts blobs first, then manifests from the leaves up, then
/// publishes the name: a registry refuses a manifest whose blobs it does not have (OCI
/// distribution-spec, "Pushing Manifests"), and no reader ever sees an incomplete root. Every
/// implementation guarantees:
/// - `put_blob` and `put_manifest` verify the digest before the content is visible under it, and
///   are atomic: after a kill all of the content is there or none.
/// - Putting what is already there is cheap, and says so ([`PutResult::Present`]).
/// - `publish_root` makes the name visible in one step, after everything that it needs, at the latest
///   when `flush_names` returns.
/// - Calls for different digests may run at once.
pub trait Sink: Send + Sync + 'static {
    /// The implementation's own error; its message names the target and the next step.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Whether the target has the root under its name with this digest, and everything that it
    /// `needs`: then the caller skips the root. `false` as well for the same index with the content of
    /// fewer platforms.
    fn holds_root(
        &self,
        root: &Root,
        needs: &RootClosure,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Puts a config or a layer that `root` needs. `moved` is called while the bytes are transferred.
    fn put_blob(
        &self,
        root: &Root,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: TransferCallback,
    ) -> impl Future<Output = Result<PutResult, Self::Error>> + Send;

    /// Puts a manifest or index by its digest, byte for byte.
    fn put_manifest(
        &self,
        root: &Root,
        manifest: &Descriptor,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<PutResult, Self::Error>> + Send;

    /// Makes the root visible under its name. `bytes` are those of its manifest or index.
    fn publish_root(
        &self,
        root: &Root,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes the names visible that [`Sink::publish_root`] has kept back, where the target writes many
    /// at once. The caller calls it once, after the last root, also when some of them failed.
    fn flush_names(&self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
}

/// What a put had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutResult {
    /// Nothing: the target has it.
    Present,
    /// Nothing was transferred: the target linked it from another of its repositories or files (a
    /// registry's cross-repository mount, a reflink).
    Linked,
    /// Its bytes were transferred.
    Moved,
}
