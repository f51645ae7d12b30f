//! Writes models into a bucket of an object store, in the same layouts as folders.
//!
//! ```text
//!  plan ─▶ inspect (what is right stays) ─▶ stage ───────────────▶ commit ──▶ pointers ─▶ record
//!                                           parts of all files,    all files   refs/main,
//!                                           visible to nobody      at once     manifests
//! ```
//!
//! A bucket has no rename, and some readers take a model for complete as soon as one of its objects is
//! there (SIE lists `snapshots/`). But a bucket has multipart uploads, which nobody sees before they
//! are completed. So the parts of *all* files of a model are uploaded and checked, and then all uploads
//! are completed at once: the time in which a reader may see some files and not yet others is that of
//! one small request for each file, not that of the bytes. What points to a model (a branch, a
//! manifest) is written after that.
//!
//! The uploads and their parts are noted in `.gantry/uploads/` of the bucket ([`journal`]), so that
//! a killed push can be resumed in the midst of a file, from any machine.

mod connect;
mod fault;
mod journal;
mod look;
mod push;
mod stage;

pub use connect::{Access, Http};
pub use push::push;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    Attribute, AttributeValue, Attributes, Error as StoreError, GetOptions, ObjectStoreExt,
    PutOptions, PutPayload,
};
use store::hash::Sha256;
use tokio::runtime::Handle;
use types::{Digest, destination};

use self::connect::{Patience, Server};
use super::place::{LONGEST, Place, Stat};
use super::record::OWN;
use super::{Error, Result};

/// The metadata of an object that has the sha256 of its content, in hex. With it a later push knows
/// without reading that the object is right. An ETag does not serve: of a multipart upload it is no hash
/// of the content.
const DIGEST: &str = "gantry-sha256";
/// Small requests that are sent at the same time: a hundred files are looked at in some round trips, and
/// no server takes this for an attack.
const REQUESTS: usize = 16;

/// A bucket, and a prefix in it. Its public methods block on the runtime that it was opened with.
#[derive(Clone)]
pub struct Bucket {
    server: Arc<dyn Server>,
    address: Arc<destination::Bucket>,
    runtime: Handle,
}

/// An object as a HEAD request describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Object {
    stat: Stat,
    /// The digest that Gantry wrote into its metadata; absent when somebody else overwrote the object.
    digest: Option<Digest>,
}

impl Bucket {
    /// Opens a bucket, and checks that its server answers, knows the bucket and lets us list it. Blocks;
    /// call it outside of the runtime.
    pub fn open(address: &destination::Bucket, access: &Access, runtime: &Handle) -> Result<Self> {
        // The first request fails fast: a wrong address or credential is the most likely mistake, and
        // the user should not wait three minutes to learn of it.
        let question = connect::server(address, access, Patience::Short)?;
        let bucket = Self {
            server: connect::server(address, access, Patience::Long)?,
            address: Arc::new(address.clone()),
            runtime: runtime.clone(),
        };
        let prefix = bucket.key(&Path::new(OWN).join("models"))?;
        let first = runtime.block_on(async { question.list(Some(&prefix)).next().await });
        match first.transpose() {
            Ok(_) => Ok(bucket),
            Err(error) => Err(fault::connect(address, error)),
        }
    }

    /// The key of a path: the prefix, then the path.
    fn key(&self, path: &Path) -> Result<Key> {
        let prefix = &self.address.prefix;
        let path = path.display();
        let name = if prefix.is_empty() { path.to_string() } else { format!("{prefix}/{path}") };
        Key::parse(&name).map_err(|cause| self.failed(Path::new(&name))(cause.into()))
    }

    /// A closure that makes an error with the object's URL.
    fn failed(&self, path: &Path) -> impl FnOnce(StoreError) -> Error + '_ {
        let url = self.shown(path).display().to_string();
        move |error| fault::request(&self.address, url, error)
    }

    /// What a HEAD request says of an object; `None` where there is none.
    async fn head(&self, path: &Path) -> Result<Option<Object>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let answer = match self.server.get_opts(&self.key(path)?, options).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(path)(error)),
        };
        let told = answer.attributes.get(&Attribute::Metadata(DIGEST.into()));
        let digest = told.and_then(|hex| format!("sha256:{}", hex.as_ref()).parse().ok());
        let modified = answer.meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
        let stat =
            Stat { size: answer.meta.size, modified: u64::try_from(modified).unwrap_or_default() };
        Ok(Some(Object { stat, digest }))
    }

    /// The same for many objects, in their order.
    async fn heads(&self, paths: &[PathBuf]) -> Result<Vec<Option<Object>>> {
        stream::iter(paths).map(|path| self.head(path)).buffered(REQUESTS).try_collect().await
    }

    /// Writes a small object in one request, with its digest as metadata.
    async fn put_object(&self, path: &Path, bytes: Bytes, digest: Digest) -> Result<()> {
        let options = PutOptions { attributes: attributes(digest), ..PutOptions::default() };
        let payload = PutPayload::from(bytes);
        let put = self.server.put_opts(&self.key(path)?, payload, options).await;
        put.map(|_| ()).map_err(self.failed(path))
    }

    /// The content of a small object; `None` where there is none.
    async fn small(&self, path: &Path) -> Result<Option<Bytes>> {
        let answer = match self.server.get(&self.key(path)?).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(path)(error)),
        };
        if answer.meta.size > LONGEST {
            let reason = format!("it has {} bytes, more than any record", answer.meta.size);
            return Err(Error::Record { path: self.shown(path), reason });
        }
        answer.bytes().await.map(Some).map_err(self.failed(path))
    }

    /// The path of every object below a folder.
    async fn below(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let prefix = self.key(folder)?;
        let list = self.server.list(Some(&prefix));
        let objects: Vec<_> = list.try_collect().await.map_err(self.failed(folder))?;
        let own = |key: &Key| {
            Path::new(key.as_ref()).strip_prefix(&self.address.prefix).map(Path::to_owned)
        };
        Ok(objects.iter().filter_map(|object| own(&object.location).ok()).collect())
    }

    /// Reads an object from its start to its end, and returns its digest.
    async fn hashed(&self, path: &Path, advance: &mut (dyn FnMut(u64) + '_)) -> Result<Digest> {
        let answer = self.server.get(&self.key(path)?).await.map_err(self.failed(path))?;
        let mut hash = Sha256::new();
        let mut pieces = answer.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(self.failed(path))? {
            hash.update(&piece);
            advance(piece.len() as u64);
        }
        Ok(hash.finish())
    }
}

impl Place for Bucket {
    fn shown(&self, path: &Path) -> PathBuf {
        PathBuf::from(self.address.to_string()).join(path)
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        Ok(self.runtime.block_on(self.head(path))?.map(|object| object.stat))
    }

    fn digest(&self, path: &Path, advance: &mut dyn FnMut(u64)) -> Result<Digest> {
        self.runtime.block_on(self.hashed(path, advance))
    }

    // Object stores have no links; layouts with links are refused before.
    fn link(&self, _: &Path) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        Ok(self.runtime.block_on(self.small(path))?.map(Vec::from))
    }

    fn names(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut below = self.runtime.block_on(self.below(folder))?;
        // A listing has everything below the prefix, at any depth.
        below.retain(|path| path.parent() == Some(folder));
        Ok(below)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let digest = store::hash::sha256(bytes);
        self.runtime.block_on(self.put_object(path, Bytes::copy_from_slice(bytes), digest))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match self.runtime.block_on(self.server.delete(&self.key(path)?)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path)(error)),
        }
    }
}

fn attributes(digest: Digest) -> Attributes {
    let name = Attribute::Metadata(DIGEST.into());
    [(name, AttributeValue::from(digest.hex()))].into_iter().collect()
}
