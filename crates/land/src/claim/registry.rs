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
use net::{Client, Mirrors, RetryPolicy};
use remote::oci::Registry;
use store::{Error, Reader, Result, Source};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use types::{Digest, Root};

use super::order::{From, Way};

/// Chunks that may wait between the socket and the thread that hashes and writes.
const QUEUE: usize = 32;
/// Tries before the fallback is used, or the push fails: enough for a restart of the registry.
const TRIES: u32 = 3;

/// A source of blobs that a registry has.
pub(super) struct Pulled {
    registry: Registry,
    client: Client,
    repositories: BTreeMap<Digest, String>,
    sizes: BTreeMap<Digest, u64>,
    handle: Handle,
}

impl Pulled {
    /// A registry, and the sizes of the blobs that are wanted. `scratch` is a folder for the CA file.
    /// An error says why the registry cannot be asked.
    pub(super) fn new(
        from: &From,
        sizes: BTreeMap<Digest, u64>,
        scratch: &Path,
        handle: Handle,
    ) -> std::result::Result<Self, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let mut builder =
            Client::builder().retry(RetryPolicy { attempts: TRIES, ..RetryPolicy::default() });
        if let Some(pem) = &from.ca {
            let path = scratch.join("registry-ca.pem");
            std::fs::write(&path, pem).map_err(|error| words(&error))?;
            builder = builder.ca([path]);
        }
        let client = builder.build().map_err(|error| words(&error))?;
        // The credential is found by the host in the pull secret, the requests go to the URL: with a
        // depot, or a registry behind a port forward, these are two addresses.
        let mirrors = BTreeMap::from([(from.host.clone(), from.url.clone())]);
        let mirrors = Mirrors::new(&mirrors, &[]).map_err(|error| words(&error))?;
        Ok(Self {
            registry: Registry::new(&client, &mirrors, &from.host),
            client,
            repositories: from.repositories.clone(),
            sizes,
            handle,
        })
    }
}

impl Source for Pulled {
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(Vec::new())
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.sizes.get(digest).copied())
    }

    /// Waits for the first bytes, so that an error comes from here, where the caller can still use
    /// another source, and not in the midst of reading.
    fn open(&self, digest: &Digest, range: Range<u64>) -> Result<Reader> {
        let missing = || Error::BlobMissing { digest: *digest };
        let size = *self.sizes.get(digest).ok_or_else(missing)?;
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(Error::Range { digest: *digest, start, end, size });
        }
        if start == end {
            return Ok(Reader::new(io::empty(), 0));
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
                let piece = download.chunk().await;
                let is_last = !matches!(piece, Ok(Some(_)));
                let Some(piece) = piece.map_err(io_error).transpose() else {
                    return;
                };
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        let mut incoming = Incoming { queue, current: Bytes::new() };
        incoming.fill().map_err(failed)?;
        Ok(Reader::new(incoming, end - start))
    }
}

/// Keeps a registry that lacks a blob (404) apart from one that does not answer.
fn io_error(error: net::Error) -> io::Error {
    let kind =
        if error.status() == Some(404) { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    io::Error::new(kind, error.to_string())
}

/// The reading end of a download.
struct Incoming {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Incoming {
    /// Waits for the next bytes; leaves nothing at the end.
    fn fill(&mut self) -> io::Result<()> {
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

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A source that asks the registry first, and the process that started the pod where that fails.
pub(super) struct Ways {
    registry: Option<Pulled>,
    /// The registry did not answer once. It is not asked again: waiting for its timeout with each file
    /// would take hours.
    is_given_up: AtomicBool,
    api: Option<Box<dyn Source>>,
    taken: Mutex<BTreeSet<Way>>,
    tell: Arc<dyn Fn(String) + Send + Sync>,
}

impl Ways {
    /// `registry` is the registry or why it cannot be asked, `api` the source behind the API server.
    /// `tell` gets a message for the user when the fallback is used. Fails where neither can be asked.
    pub(super) fn new(
        registry: Option<std::result::Result<Pulled, String>>,
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
        Ok(Self { registry, is_given_up, api, taken: Mutex::default(), tell })
    }

    /// Where the bytes came from so far.
    pub(super) fn taken(&self) -> Way {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match (taken.contains(&Way::Registry), taken.contains(&Way::Api)) {
            (false, false) => Way::None,
            (true, false) => Way::Registry,
            (false, true) => Way::Api,
            (true, true) => Way::Both,
        }
    }

    /// Notes where bytes came from; `true` the first time.
    fn took(&self, way: Way) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(way)
    }
}

impl Source for Ways {
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(Vec::new())
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        match (&self.api, &self.registry) {
            (Some(api), _) => api.size(digest),
            (None, Some(registry)) => registry.size(digest),
            (None, None) => Ok(None),
        }
    }

    fn open(&self, digest: &Digest, range: Range<u64>) -> Result<Reader> {
        let missing = || Error::BlobMissing { digest: *digest };
        let is_nothing = range.start == range.end;
        let registry = self.registry.as_ref();
        if let Some(registry) = registry.filter(|_| !self.is_given_up.load(Ordering::Relaxed)) {
            match (registry.open(digest, range.clone()), &self.api) {
                (Ok(reader), _) => {
                    if !is_nothing {
                        self.took(Way::Registry);
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
                    if self.took(Way::Api) {
                        (self.tell)(format!("{error}: getting it over the API server instead"));
                    }
                }
            }
        }
        let reader = self.api.as_ref().ok_or_else(missing)?.open(digest, range)?;
        if !is_nothing {
            self.took(Way::Api);
        }
        Ok(reader)
    }
}
