//! In the seeder pod: a [`Source`] whose blobs come from the site's registry or a depot, for threads
//! that block; and one that falls back to the API server where the registry does not answer or does
//! not have a blob.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use net::{BandwidthLimit, Client, Mirrors, RetryPolicy};
use remote::oci::RegistryClient;
use store::{Error, Result, Source, SourceReader};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use types::{Digest, Root};

use super::order::ModelRegistry;
use super::transfer_route::TransferRoute;

/// Chunks that may wait between the socket and the thread that hashes and writes.
const QUEUE: usize = 32;
/// Tries before the fallback is used, or the push fails: enough for a restart of the registry.
const TRIES: u32 = 3;

/// A source of blobs that a registry has.
pub(super) struct RegistryBlobSource {
    registry: RegistryClient,
    client: Client,
    repositories: BTreeMap<Digest, String>,
    sizes: BTreeMap<Digest, u64>,
    handle: Handle,
}

impl RegistryBlobSource {
    /// A registry, and the sizes of the blobs that are wanted. `scratch` is a folder for the CA file.
    /// An error says why the registry cannot be asked.
    pub(super) fn new(
        from: &ModelRegistry,
        sizes: BTreeMap<Digest, u64>,
        scratch: &Path,
        handle: Handle,
    ) -> std::result::Result<Self, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let mut builder =
            Client::builder().retry(RetryPolicy { attempts: TRIES, ..RetryPolicy::default() });
        // The site says whether its registry has TLS, and this is its address.
        builder = builder.plain_http_address(&from.url);
        if let Some(pem) = &from.ca {
            let path = scratch.join("registry-ca.pem");
            std::fs::write(&path, pem).map_err(|error| words(&error))?;
            builder = builder.ca_files([path]);
        }
        if let Some(limit) = from.bytes_per_second {
            builder = builder.bandwidth(BandwidthLimit::new(limit));
        }
        let client = builder.build().map_err(|error| words(&error))?;
        // The credential is found by the host in the pull secret, the requests go to the URL: with a
        // depot, or a registry behind a port forward, these are two addresses.
        let mirrors = BTreeMap::from([(from.host.clone(), from.url.clone())]);
        let mirrors = Mirrors::new(&mirrors, &[]).map_err(|error| words(&error))?;
        Ok(Self {
            registry: RegistryClient::new(&client, &mirrors, &from.host),
            client,
            repositories: from.repositories.clone(),
            sizes,
            handle,
        })
    }
}

impl Source for RegistryBlobSource {
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(Vec::new())
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.sizes.get(digest).copied())
    }

    /// Waits for the first bytes, so that an error comes from here, where the caller can still use
    /// another source, and not in the midst of reading.
    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let missing = || Error::BlobMissing { digest: *digest };
        let size = *self.sizes.get(digest).ok_or_else(missing)?;
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(Error::Range { digest: *digest, start, end, size });
        }
        if start == end {
            return Ok(SourceReader::new(io::empty(), 0));
        }
        let repository = self.repositories.get(digest).ok_or_else(missing)?;
        let what = format!("{}/{repository}@{digest}", self.registry.host());
        let failed = |cause: io::Error| Error::Read { what: what.clone(), cause };
        let request = self.registry.blob_request(repository, digest);
        let request = request.map_err(|error| failed(io::Error::other(error)))?;
        let mut download = self.client.download(request, start, Some(size));
        let (sender, queue) = mpsc::channel(QUEUE);
        // Sockets are asynchronous, the caller blocks: a task feeds a channel that the reader empties. It
        // ends with the blob, with an error, or when the reader is dropped.
        self.handle.spawn(async move {
            loop {
                let piece = download.next_chunk().await;
                let is_last = !matches!(piece, Ok(Some(_)));
                let Some(piece) = piece.map_err(to_io_error).transpose() else {
                    return;
                };
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        let mut incoming = BlockingDownload { queue, current: Bytes::new() };
        incoming.fill_buffer().map_err(failed)?;
        Ok(SourceReader::new(incoming, end - start))
    }
}

/// Keeps a registry that lacks a blob (404) apart from one that does not answer.
fn to_io_error(error: net::Error) -> io::Error {
    let kind =
        if error.status() == Some(404) { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    io::Error::new(kind, error)
}

/// The reading end of a download.
struct BlockingDownload {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl BlockingDownload {
    /// Waits for the next bytes; leaves nothing at the end.
    fn fill_buffer(&mut self) -> io::Result<()> {
        while self.current.is_empty() {
            match self.queue.blocking_recv() {
                Some(Ok(bytes)) => self.current = bytes,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

impl Read for BlockingDownload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill_buffer()?;
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A source that asks the registry first, and the process that started the pod where that fails.
pub(super) struct FallbackSource {
    registry: Option<RegistryBlobSource>,
    /// The registry did not answer once. It is not asked again: waiting for its timeout with each file
    /// would take hours.
    is_given_up: AtomicBool,
    api: Option<Box<dyn Source>>,
    taken: Mutex<BTreeSet<TransferRoute>>,
    notify: Arc<dyn Fn(String) + Send + Sync>,
}

impl FallbackSource {
    /// `registry` is the registry or why it cannot be asked, `api` the source behind the API server.
    /// `tell` gets a message for the user when the fallback is used. Fails where neither can be asked.
    pub(super) fn new(
        registry: Option<std::result::Result<RegistryBlobSource, String>>,
        api: Option<Box<dyn Source>>,
        tell: Arc<dyn Fn(String) + Send + Sync>,
    ) -> std::result::Result<Self, String> {
        let registry = match registry {
            Some(Ok(registry)) => Some(registry),
            Some(Err(reason)) if api.is_none() => return Err(reason),
            Some(Err(reason)) => {
                tell(format!(
                    "the registry cannot be asked ({reason}): getting the models over the API server instead"
                ));
                None
            }
            None => None,
        };
        let is_given_up = AtomicBool::new(false);
        Ok(Self { registry, is_given_up, api, taken: Mutex::default(), notify: tell })
    }

    /// Where the bytes came from so far.
    pub(super) fn taken_route(&self) -> TransferRoute {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match (taken.contains(&TransferRoute::Registry), taken.contains(&TransferRoute::Api)) {
            (false, false) => TransferRoute::None,
            (true, false) => TransferRoute::Registry,
            (false, true) => TransferRoute::Api,
            (true, true) => TransferRoute::Both,
        }
    }

    /// Notes where bytes came from; `true` the first time.
    fn record_route(&self, way: TransferRoute) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(way)
    }
}

impl Source for FallbackSource {
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(Vec::new())
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match (&self.api, &self.registry) {
            (Some(api), _) => api.blob_size(digest),
            (None, Some(registry)) => registry.blob_size(digest),
            (None, None) => Ok(None),
        }
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let missing = || Error::BlobMissing { digest: *digest };
        let is_nothing = range.start == range.end;
        let registry = self.registry.as_ref();
        if let Some(registry) = registry.filter(|_| !self.is_given_up.load(Ordering::Relaxed)) {
            match (registry.open_blob(digest, range.clone()), &self.api) {
                (Ok(reader), _) => {
                    if !is_nothing {
                        self.record_route(TransferRoute::Registry);
                    }
                    return Ok(reader);
                }
                (Err(error), None) => return Err(error),
                (Err(error), Some(_)) => {
                    let is_missing = matches!(&error, Error::BlobMissing { .. })
                        || matches!(&error, Error::Read { cause, .. }
                            if cause.kind() == io::ErrorKind::NotFound);
                    // A blob that is missing says nothing about the others: the registry is asked again.
                    if !is_missing {
                        self.is_given_up.store(true, Ordering::Relaxed);
                    }
                    if self.record_route(TransferRoute::Api) {
                        (self.notify)(format!("{error}: getting it over the API server instead"));
                    }
                }
            }
        }
        let reader = self.api.as_ref().ok_or_else(missing)?.open_blob(digest, range)?;
        if !is_nothing {
            self.record_route(TransferRoute::Api);
        }
        Ok(reader)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::hash::sha256;

    use super::*;

    /// The source behind the API server, with one blob.
    struct ApiBlob;

    impl Source for ApiBlob {
        fn roots(&self) -> Result<Vec<Root>> {
            Ok(vec![])
        }

        fn blob_size(&self, _: &Digest) -> Result<Option<u64>> {
            Ok(Some(4))
        }

        fn open_blob(&self, _: &Digest, range: Range<u64>) -> Result<SourceReader> {
            Ok(SourceReader::new(&b"blob"[range.start as usize..], range.end - range.start))
        }
    }

    #[test]
    fn a_registry_that_cannot_be_asked_is_told_once_and_the_bytes_come_over_the_api() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let notify = Arc::clone(&told);
        let notify: Arc<dyn Fn(String) + Send + Sync> =
            Arc::new(move |note| notify.lock().unwrap().push(note));
        let broken = Some(Err("no certificate".to_owned()));
        let source = FallbackSource::new(broken, Some(Box::new(ApiBlob)), notify).unwrap();
        let digest = sha256(b"blob");
        // Nothing is moved for an empty range, so it says nothing about the way.
        source.open_blob(&digest, 2..2).unwrap();
        assert_eq!(source.taken_route(), TransferRoute::None);
        for _ in 0..2 {
            source.open_blob(&digest, 0..4).unwrap();
        }
        assert_eq!(source.taken_route(), TransferRoute::Api);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("no certificate"), "{told:?}");
    }

    #[test]
    fn without_any_way_there_is_an_error_before_a_blob_is_asked_for() {
        let broken = Some(Err("no certificate".to_owned()));
        let source = FallbackSource::new(broken, None, Arc::new(|_| {})).map(drop);
        assert_eq!(source, Err("no certificate".to_owned()));
    }

    #[test]
    fn bytes_from_both_ways_are_told_as_both() {
        let source = FallbackSource::new(None, Some(Box::new(ApiBlob)), Arc::new(|_| {})).unwrap();
        assert!(source.record_route(TransferRoute::Registry));
        assert!(!source.record_route(TransferRoute::Registry));
        assert_eq!(source.taken_route(), TransferRoute::Registry);
        source.open_blob(&sha256(b"blob"), 0..1).unwrap();
        assert_eq!(source.taken_route(), TransferRoute::Both);
    }
}
