//! A source in memory with models in it, for the unit tests of this module.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Mutex;

use serde_json::{Value, json};
use store::hash::sha256;
use store::{Error, Result, Source, SourceReader};
use types::{Descriptor, Digest, Root, RootKind, annotation, media_type};

/// The commit of models whose revision does not matter.
pub(super) const COMMIT: &str = "1111111111111111111111111111111111111111";

/// Blobs and roots in memory; it remembers which ranges were read.
#[derive(Default)]
pub(super) struct MemorySource {
    blobs: BTreeMap<Digest, Vec<u8>>,
    roots: Vec<Root>,
    pub(super) opened: Mutex<Vec<(Digest, Range<u64>)>>,
}

impl MemorySource {
    /// Adds a blob.
    pub(super) fn add_blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        self.blobs.insert(digest, bytes.to_vec());
        digest
    }

    /// Makes a blob have other bytes than its digest says.
    pub(super) fn damage_blob(&mut self, digest: &Digest) {
        self.blobs.get_mut(digest).unwrap()[0] ^= 0xff;
    }

    /// Adds a snapshot of a model. Files called `*.safetensors` are in LFS, as on the Hub.
    pub(super) fn add_model(
        &mut self,
        id: &str,
        commit: &str,
        revision: Option<&str>,
        files: &[(&str, &[u8])],
    ) {
        let layers: Vec<Value> = files
            .iter()
            .map(|(path, bytes)| {
                let is_large = path.ends_with(".safetensors");
                json!({
                    "mediaType": "application/octet-stream",
                    "digest": self.add_blob(bytes),
                    "size": bytes.len(),
                    "annotations": {
                        annotation::MODEL_FILEPATH: path,
                        annotation::GIT_ID: sha256(bytes).hex()[..40],
                        annotation::LFS: is_large.to_string(),
                    },
                })
            })
            .collect();
        let mut annotations =
            BTreeMap::from([(annotation::MODEL_ID, id), (annotation::MODEL_COMMIT, commit)]);
        annotations.extend(revision.map(|revision| (annotation::MODEL_REVISION, revision)));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": {"mediaType": "application/json", "digest": self.add_blob(b"{}"), "size": 2},
            "layers": layers, "annotations": annotations,
        });
        let name = format!("huggingface.co/{}:{commit}", id.to_lowercase());
        let name = name.parse().unwrap_or_else(|_| "huggingface.co/odd:1".parse().unwrap());
        self.add_root(name, RootKind::Model, manifest.to_string().as_bytes());
    }

    /// Adds a plain file.
    pub(super) fn add_file(&mut self, title: &str, bytes: &[u8]) {
        let blob = types::lock::Blob { digest: self.add_blob(bytes), size: bytes.len() as u64 };
        let file = remote::artifact::build_file_artifact(title, blob).unwrap();
        self.add_blob(&file.manifest);
        self.roots.push(file.root);
    }

    /// Adds a root with this manifest.
    pub(super) fn add_root(&mut self, name: types::Reference, kind: RootKind, manifest: &[u8]) {
        let digest = self.add_blob(manifest);
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
        self.roots.push(Root::new(name, kind, descriptor));
    }
}

impl Source for MemorySource {
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(self.roots.clone())
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blobs.get(digest).map(|bytes| bytes.len() as u64))
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let bytes = self.blobs.get(digest).ok_or(Error::BlobMissing { digest: *digest })?;
        self.opened.lock().unwrap().push((*digest, range.clone()));
        let piece = bytes[range.start as usize..range.end as usize].to_vec();
        Ok(SourceReader::new(Cursor::new(piece), range.end - range.start))
    }
}
