//! The store as a [`Sink`], for `load … --to FOLDER`.
//!
//! The trait is async and a disk is not: each call does its work on a thread of its own, which ends
//! early when the future is dropped and leaves its partial for the next run.

use std::io::{self, Read as _};
use std::sync::Arc;

use futures::channel::oneshot;
use types::{Descriptor, Digest, Root};

use crate::hash::compute_digest;
use crate::{
    Error, PutResult, Result, RootClosure, Sink, Source, Store, TransferCallback, WriteStart,
    Writer,
};

/// The length of one read and write, after which `moved` is called.
const BUFFER: usize = 256 << 10;

impl Sink for Store {
    type Error = Error;

    async fn holds_root(&self, root: &Root, needs: &RootClosure) -> Result<bool> {
        let (store, root, needs) = (self.clone(), root.clone(), needs.clone());
        run_on_thread(move |_| {
            if !store.names_root(&root.name, root.descriptor.digest)? {
                return Ok(false);
            }
            for descriptor in needs.descriptors() {
                if !store.contains(descriptor)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    async fn put_blob(
        &self,
        _root: &Root,
        blob: &Descriptor,
        from: Arc<dyn Source>,
        moved: TransferCallback,
    ) -> Result<PutResult> {
        let (store, blob) = (self.clone(), blob.clone());
        run_on_thread(move |is_cancelled| {
            let WriteStart::Writer(writer) = store.open_writer(&blob.digest, blob.size)? else {
                return Ok(PutResult::Present);
            };
            let went_on = writer.offset() > 0;
            // What an earlier run wrote counts as transferred, so that the progress ends at the total.
            moved(writer.offset());
            match copy_blob(writer, &*from, &*moved, is_cancelled) {
                // What an earlier run left may have been damaged by a power cut (blobs are not synced):
                // once more, from the start, without counting the bytes again.
                Err(Error::DigestMismatch { .. }) if went_on => {}
                result => return result.map(|()| PutResult::Moved),
            }
            match store.open_writer(&blob.digest, blob.size)? {
                WriteStart::Present => Ok(PutResult::Present),
                WriteStart::Writer(writer) => {
                    copy_blob(writer, &*from, &|_| {}, is_cancelled).map(|()| PutResult::Moved)
                }
            }
        })
        .await
    }

    async fn put_manifest(
        &self,
        _root: &Root,
        manifest: &Descriptor,
        bytes: Vec<u8>,
    ) -> Result<PutResult> {
        let (store, manifest) = (self.clone(), manifest.clone());
        run_on_thread(move |_| {
            check_digest(&manifest.digest, &bytes)?;
            if store.contains(&manifest)? {
                return Ok(PutResult::Present);
            }
            store.put_document(&manifest.digest, &bytes).map(|()| PutResult::Moved)
        })
        .await
    }

    async fn publish_root(&self, root: &Root, bytes: Vec<u8>) -> Result<()> {
        let (store, root) = (self.clone(), root.clone());
        run_on_thread(move |_| {
            check_digest(&root.descriptor.digest, &bytes)?;
            // Mostly there already by `put_manifest`; a root's own manifest may come only here.
            store.put_document(&root.descriptor.digest, &bytes)?;
            store.publish_root_soon(root)
        })
        .await
    }

    async fn flush_names(&self) -> Result<()> {
        let store = self.clone();
        run_on_thread(move |_| store.publish_pending_roots()).await
    }
}

fn check_digest(digest: &Digest, bytes: &[u8]) -> Result<()> {
    let actual = compute_digest(digest.algorithm(), bytes);
    if actual != *digest {
        return Err(Error::DigestMismatch { digest: *digest, actual });
    }
    Ok(())
}

/// Writes the rest of a blob.
fn copy_blob(
    mut writer: Writer,
    from: &dyn Source,
    moved: &dyn Fn(u64),
    is_cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let digest = *writer.digest();
    let mut reader = from.open_blob(&digest, writer.offset()..writer.size())?;
    // A small blob needs no large buffer: models have thousands of small files.
    let mut buffer = vec![0; BUFFER.min(reader.remaining() as usize)];
    while reader.remaining() > 0 {
        if is_cancelled() {
            return Err(interrupted_error(&digest));
        }
        let read = match reader.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(Error::Read { what: digest.to_string(), cause }),
        };
        writer.write(&buffer[..read])?;
        moved(read as u64);
    }
    writer.commit()
}

/// The error of a cancelled transfer. Nobody sees it: the future that would return it was dropped.
fn interrupted_error(digest: &Digest) -> Error {
    Error::Write { what: digest.to_string(), cause: io::ErrorKind::Interrupted.into() }
}

/// Runs blocking work on a thread of its own. The function that the work gets returns whether the
/// future was dropped, so that it can end early. Not tokio's pool of blocking threads: this crate
/// works with any executor.
async fn run_on_thread<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |cause| Error::Write { what: "the store".into(), cause };
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("store".into())
        .spawn(move || {
            let result = work(&|| sender.is_canceled());
            // Nobody waits any more: what was done stays done.
            let _ = sender.send(result);
        })
        .map_err(failed)?;
    receiver
        .await
        .unwrap_or_else(|_| Err(failed(io::Error::other("the writing thread ended unexpectedly"))))
}
