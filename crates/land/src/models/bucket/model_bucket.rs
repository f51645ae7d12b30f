//! A bucket as a store of models: requests for its objects, and what a server says of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use net::BandwidthLimit;
use object_store::path::Path as Key;
use object_store::{
    Attribute, AttributeValue, Attributes, Error as StoreError, GetOptions, ObjectStoreExt,
    PutOptions, PutPayload,
};
use store::hash::DigestHasher;
use tokio::runtime::Handle;
use types::{Digest, DigestAlgorithm, destination};

use super::connect::{BucketAccess, MultipartObjectStore, RequestPatience};
use super::{connect, explain};
use crate::models::record::OWN;
use crate::models::storage::{FileStat, LONGEST, ModelStorage};
use crate::models::{Error, Result};

/// The metadata of an object that has the sha256 of its content, in hex. With it a later push knows
/// without reading that the object is right. An ETag does not serve: of a multipart upload it is no hash
/// of the content.
const DIGEST: &str = "gantry-sha256";

/// Small requests that are sent at the same time: a hundred files are looked at in some round trips, and
/// no server takes this for an attack.
pub(super) const REQUESTS: usize = 16;

/// A bucket, and a prefix in it. Its public methods block on the runtime that it was opened with.
#[derive(Clone)]
pub struct ModelBucket {
    pub(super) server: Arc<dyn MultipartObjectStore>,
    pub(super) address: Arc<destination::Bucket>,
    pub(super) runtime: Handle,
    /// The limit that all requests share.
    pub(super) bandwidth: Option<BandwidthLimit>,
}

/// An object as a HEAD request describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectHead {
    pub(super) stat: FileStat,
    /// The digest that Gantry wrote into its metadata; absent when somebody else overwrote the object.
    pub(super) digest: Option<Digest>,
}

impl ModelBucket {
    /// Opens a bucket, and checks that its server answers, knows the bucket and lets us list it. Blocks;
    /// call it outside of the runtime.
    pub fn open(
        address: &destination::Bucket,
        access: &BucketAccess,
        runtime: &Handle,
    ) -> Result<Self> {
        // The first request fails fast: a wrong address or credential is the most likely mistake, and
        // the user should not wait three minutes to learn of it.
        let question = connect::connect_object_store(address, access, RequestPatience::Short)?;
        let bucket = Self {
            server: connect::connect_object_store(address, access, RequestPatience::Long)?,
            address: Arc::new(address.clone()),
            runtime: runtime.clone(),
            bandwidth: access.bandwidth.map(|limit| BandwidthLimit::new(limit.0)),
        };
        let prefix = bucket.object_key(&Path::new(OWN).join("models"))?;
        let first = runtime.block_on(async { question.list(Some(&prefix)).next().await });
        match first.transpose() {
            Ok(_) => Ok(bucket),
            Err(error) => Err(explain::connect_error(address, error)),
        }
    }

    /// Waits until these bytes may be sent, or the next ones be received.
    pub(super) async fn wait_for_bytes(&self, bytes: u64) {
        if let Some(limit) = &self.bandwidth {
            limit.wait_for_bytes(bytes).await;
        }
    }

    /// The key of a path: the prefix, then the path.
    pub(super) fn object_key(&self, path: &Path) -> Result<Key> {
        let prefix = &self.address.prefix;
        let path = path.display();
        let name = if prefix.is_empty() { path.to_string() } else { format!("{prefix}/{path}") };
        Key::parse(&name).map_err(|cause| self.request_error(Path::new(&name))(cause.into()))
    }

    /// A closure that makes an error with the object's URL.
    pub(super) fn request_error(&self, path: &Path) -> impl FnOnce(StoreError) -> Error + '_ {
        let url = self.display_path(path).display().to_string();
        move |error| explain::request_error(&self.address, url, error)
    }

    /// What a HEAD request says of an object; `None` where there is none.
    pub(super) async fn head_object(&self, path: &Path) -> Result<Option<ObjectHead>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let answer = match self.server.get_opts(&self.object_key(path)?, options).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.request_error(path)(error)),
        };
        let told = answer.attributes.get(&Attribute::Metadata(DIGEST.into()));
        let digest = told.and_then(|hex| Digest::from_sha256_hex(hex.as_ref()).ok());
        let modified = answer.meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
        let stat = FileStat {
            size: answer.meta.size,
            modified: u64::try_from(modified).unwrap_or_default(),
        };
        Ok(Some(ObjectHead { stat, digest }))
    }

    /// The same for many objects, in their order.
    pub(super) async fn head_objects(&self, paths: &[PathBuf]) -> Result<Vec<Option<ObjectHead>>> {
        stream::iter(paths)
            .map(|path| self.head_object(path))
            .buffered(REQUESTS)
            .try_collect()
            .await
    }

    /// Writes a small object in one request, with its digest as metadata.
    pub(super) async fn put_object(&self, path: &Path, bytes: Bytes, digest: Digest) -> Result<()> {
        let options = PutOptions { attributes: digest_attributes(digest), ..PutOptions::default() };
        let payload = PutPayload::from(bytes);
        let put = self.server.put_opts(&self.object_key(path)?, payload, options).await;
        put.map(|_| ()).map_err(self.request_error(path))
    }

    /// The content of a small object; `None` where there is none.
    pub(super) async fn read_small_object(&self, path: &Path) -> Result<Option<Bytes>> {
        let answer = match self.server.get(&self.object_key(path)?).await {
            Ok(answer) => answer,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.request_error(path)(error)),
        };
        if answer.meta.size > LONGEST {
            let reason = format!("it has {} bytes, more than any record", answer.meta.size);
            return Err(Error::Record { path: self.display_path(path), reason: reason.into() });
        }
        answer.bytes().await.map(Some).map_err(self.request_error(path))
    }

    /// The path of every object below a folder.
    pub(super) async fn list_below(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let prefix = self.object_key(folder)?;
        let list = self.server.list(Some(&prefix));
        let objects: Vec<_> = list.try_collect().await.map_err(self.request_error(folder))?;
        let own = |key: &Key| {
            Path::new(key.as_ref()).strip_prefix(&self.address.prefix).map(Path::to_owned)
        };
        Ok(objects.iter().filter_map(|object| own(&object.location).ok()).collect())
    }

    /// Reads an object from its start to its end, and returns its digest.
    pub(super) async fn hash_object(
        &self,
        path: &Path,
        algorithm: DigestAlgorithm,
        advance: &mut (dyn FnMut(u64) + '_),
    ) -> Result<Digest> {
        let answer =
            self.server.get(&self.object_key(path)?).await.map_err(self.request_error(path))?;
        let mut hash = DigestHasher::new(algorithm);
        let mut pieces = answer.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(self.request_error(path))? {
            hash.update(&piece);
            advance(piece.len() as u64);
            self.wait_for_bytes(piece.len() as u64).await;
        }
        Ok(hash.finish())
    }
}

impl ModelStorage for ModelBucket {
    fn display_path(&self, path: &Path) -> PathBuf {
        PathBuf::from(self.address.to_string()).join(path)
    }

    fn file_stat(&self, path: &Path) -> Result<Option<FileStat>> {
        Ok(self.runtime.block_on(self.head_object(path))?.map(|object| object.stat))
    }

    fn digest_file(
        &self,
        path: &Path,
        algorithm: DigestAlgorithm,
        advance: &mut dyn FnMut(u64),
    ) -> Result<Digest> {
        self.runtime.block_on(self.hash_object(path, algorithm, advance))
    }

    // Object stores have no links; layouts with links are refused before.
    fn link_target(&self, _: &Path) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        Ok(self.runtime.block_on(self.read_small_object(path))?.map(Vec::from))
    }

    fn list_files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut below = self.runtime.block_on(self.list_below(folder))?;
        // A listing has everything below the prefix, at any depth.
        below.retain(|path| path.parent() == Some(folder));
        Ok(below)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let digest = store::hash::sha256(bytes);
        self.runtime.block_on(self.put_object(path, Bytes::copy_from_slice(bytes), digest))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        match self.runtime.block_on(self.server.delete(&self.object_key(path)?)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.request_error(path)(error)),
        }
    }
}

/// The metadata of an object. One of another algorithm has none: it is read to compare it.
pub(super) fn digest_attributes(digest: Digest) -> Attributes {
    let name = Attribute::Metadata(DIGEST.into());
    let told = (digest.algorithm() == DigestAlgorithm::Sha256)
        .then(|| (name, AttributeValue::from(digest.hex())));
    told.into_iter().collect()
}
