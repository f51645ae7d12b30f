//! In the pod: blobs from the site's registry or a depot's door, as a [`Source`] for threads that
//! block. Where that does not answer, or has not a blob, the other way is taken: over the API server.

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

/// Pieces between the socket and the thread that hashes and writes.
const QUEUE: usize = 32;
/// Tries before the other way is taken, or the push fails: a restart of the registry is bridged.
const TRIES: u32 = 3;

/// The blobs of a registry.
pub(super) struct Pulled {
    registry: Registry,
    client: Client,
    repositories: BTreeMap<Digest, String>,
    sizes: BTreeMap<Digest, u64>,
    handle: Handle,
}

impl Pulled {
    /// A registry whose blobs have these sizes. `scratch` is a folder for its authority's file.
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

    /// Fails when the registry does not give the first bytes.
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

/// A registry that has not a blob is told apart from one that does not answer.
fn io_error(error: net::Error) -> io::Error {
    let kind =
        if error.status() == Some(404) { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    io::Error::new(kind, error.to_string())
}

struct Incoming {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Incoming {
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

/// The ways that bytes may come, the registry first.
pub(super) struct Ways {
    registry: Option<Pulled>,
    /// It does not answer: asking for each file anew would only take time.
    is_given_up: AtomicBool,
    api: Option<Box<dyn Source>>,
    taken: Mutex<BTreeSet<Way>>,
    tell: Arc<dyn Fn(String) + Send + Sync>,
}

impl Ways {
    /// A registry, or why there is none, and what is asked for over the API server. `tell` gets what a
    /// person should know.
    pub(super) fn new(
        registry: Option<std::result::Result<Pulled, String>>,
        api: Option<Box<dyn Source>>,
        tell: Arc<dyn Fn(String) + Send + Sync>,
    ) -> std::result::Result<Self, String> {
        let registry = match registry {
            Some(Ok(registry)) => Some(registry),
            Some(Err(reason)) if api.is_none() => return Err(reason),
            Some(Err(reason)) => {
                tell(format!("the registry is not asked ({reason}); over the API server instead"));
                None
            }
            None => None,
        };
        let is_given_up = AtomicBool::new(false);
        Ok(Self { registry, is_given_up, api, taken: Mutex::default(), tell })
    }

    /// Which ways were taken.
    pub(super) fn taken(&self) -> Way {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match (taken.contains(&Way::Registry), taken.contains(&Way::Api)) {
            (false, false) => Way::None,
            (true, false) => Way::Registry,
            (false, true) => Way::Api,
            (true, true) => Way::Both,
        }
    }

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
                    if !is_missing {
                        self.is_given_up.store(true, Ordering::Relaxed);
                    }
                    if self.took(Way::Api) {
                        (self.tell)(format!("{error}; over the API server instead"));
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
