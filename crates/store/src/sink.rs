//! Where roots go.

use std::future::Future;
use std::sync::Arc;

use types::{Descriptor, Root};

use crate::{Closure, Source};

/// Is told how many bytes were moved just now. Shared, because a sink may call it from a thread of
/// its own.
pub type Moved = Arc<dyn Fn(u64) + Send + Sync>;

/// Takes roots with all that they need, from a [`Source`].
///
/// The caller (`land`) walks each root, puts blobs first, then manifests from the leaves up, then
/// publishes the name. Every implementation guarantees:
/// - `put_blob` and `put_manifest` verify the digest before the content is visible under it, and
///   are atomic: after a kill the content is there whole or not at all.
/// - Putting what is already there is cheap, and says so ([`Put::Present`]).
/// - `publish` makes the name visible in one step, after everything that it needs.
/// - Calls for different digests may run at once.
pub trait Sink: Send + Sync + 'static {
    /// The implementation's own error; it tells the target and the next step.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Whether the root stands here already under its name with this digest, with all that it
    /// `needs`: then nothing of it needs to be looked at. (The same index can stand here with the
    /// content of fewer platforms; that is `false`.)
    fn holds(
        &self,
        root: &Root,
        needs: &Closure,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Puts a config or a layer that `root` needs. `moved` is told the bytes as they go.
    fn put_blob(
        &self,
        root: &Root,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: Moved,
    ) -> impl Future<Output = Result<Put, Self::Error>> + Send;

    /// Puts a manifest or index by its digest, byte for byte.
    fn put_manifest(
        &self,
        root: &Root,
        manifest: &Descriptor,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<Put, Self::Error>> + Send;

    /// Gives the root its name.
    fn publish(
        &self,
        root: &Root,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was there.
    Present,
    /// It was linked from another place of the same target (a registry's mount, a reflink).
    Linked,
    /// Its bytes were moved.
    Moved,
}
