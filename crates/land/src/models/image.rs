//! Makes an OCI image of models' files, for Kubernetes' image volumes (1.31 and newer). It is a
//! [`Source`] whose layers are put together from the source's blobs while they are read, so that
//! nothing is written to the disk.
//!
//! A large file is a layer of its own, so that the next revision moves only what changed; small files,
//! links and folders share one layer. Layers are plain tar with fixed times, owners and modes: the
//! same models give the same digests, and a layer's digest is its `diff_id`.
//!
//! For example, a model of `config.json` (600 bytes) and `model.safetensors` (2 GB) becomes two layers:
//!
//! ```text
//! layer 1: header of org/, header of org/name/, header of config.json, 600 bytes, 424 zeros, end
//! layer 2: header of org/name/model.safetensors, 2 GB out of the source, padding, end
//! ```
//!
//! A layer is kept as this list of pieces ([`BlobTar`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use store::hash::{DigestHasher, sha256};
use store::progress::Progress;
use store::{Source, SourceReader};
use types::lock::Blob;
use types::{Descriptor, Digest, Reference, Root, RootKind, media_type};

use super::error::disk_error;
use super::plan::{FileContent, ModelPlan};
use super::{Error, Result};
use crate::blob_tar::{BlobTar, BlobTarBuilder};

/// Files of this size or more are layers of their own. All others share one: docker takes at most 127
/// layers, and a layer costs a registry several requests.
const LARGE: u64 = 16 << 20;
/// Bytes that are hashed at a time.
const PIECE: usize = 1 << 20;
/// Plain tar (OCI Image Spec 1.1, layer.md): weights hardly compress, and plain layers can be read from
/// any offset.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The image has no program, so that nodes of any architecture may mount it; each gets a manifest, since
/// runtimes choose by architecture.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// An image of models whose layers are made while they are read.
pub struct ModelImage {
    source: Arc<dyn Source>,
    root: Root,
    layers: BTreeMap<Digest, BlobTar>,
    documents: BTreeMap<Digest, Vec<u8>>,
}

impl ModelImage {
    /// The image of planned models, under this name. Reads every file once, for the layers' digests.
    /// Blocks on the disk.
    pub fn new(
        source: Arc<dyn Source>,
        plans: &[ModelPlan],
        name: &Reference,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut small = BlobTarBuilder::default();
        let mut large = BTreeMap::new();
        let mut files = BTreeMap::new();
        for plan in plans {
            files.extend(plan.files());
        }
        progress.expect_bytes(files.values().map(|content| content.size).sum());
        // Everything is sorted by path, so that the same models give the same bytes and digests.
        let links: BTreeMap<PathBuf, &PathBuf> = plans
            .iter()
            .filter_map(|plan| plan.folder.as_ref())
            .flat_map(|folder| folder.links.iter().map(|(at, to)| (folder.path.join(at), to)))
            .collect();
        let pointers: BTreeMap<&PathBuf, &Vec<u8>> = plans
            .iter()
            .flat_map(|plan| &plan.pointers)
            .map(|(path, bytes)| (path, bytes))
            .collect();
        let paths = files.keys().chain(links.keys()).chain(pointers.keys().copied());
        let folders: BTreeSet<PathBuf> = paths
            .flat_map(|path| path.ancestors().skip(1))
            .filter(|folder| !folder.as_os_str().is_empty())
            .map(Path::to_owned)
            .collect();
        // Folders come first, with their own entries: unpackers give others modes of their own choice.
        for folder in &folders {
            small.add_folder(folder).map_err(disk_error(folder))?;
        }
        for (path, content) in files {
            if content.size < LARGE {
                small.add_file(&path, to_blob(content)).map_err(disk_error(&path))?;
            } else {
                let mut tar = BlobTarBuilder::default();
                tar.add_file(&path, to_blob(content)).map_err(disk_error(&path))?;
                large.insert(path, tar);
            }
        }
        for (path, to) in links {
            small.add_link(&path, to).map_err(disk_error(&path))?;
        }
        for (path, bytes) in pointers {
            small.add_bytes(path, bytes).map_err(disk_error(path))?;
        }
        let mut layers = BTreeMap::new();
        let mut order = Vec::new();
        for tar in std::iter::once(small).chain(large.into_values()) {
            let layer = tar.finish();
            let digest = compute_digest(&layer, &source, progress)?;
            order.push((digest, layer.size()));
            layers.insert(digest, layer);
        }
        let mut documents = BTreeMap::new();
        let index = build_index(&order, &mut documents);
        Ok(Self {
            source,
            root: Root::new(name.clone(), RootKind::Image, index),
            layers,
            documents,
        })
    }

    /// The image, as the only root of this source.
    pub fn root(&self) -> &Root {
        &self.root
    }
}

fn to_blob(content: FileContent) -> Blob {
    Blob { digest: content.digest, size: content.size }
}

/// Reads the whole layer for its digest.
fn compute_digest(
    layer: &BlobTar,
    source: &Arc<dyn Source>,
    progress: &dyn Progress,
) -> Result<Digest> {
    let mut reader = layer.open_range(source, 0..layer.size());
    let mut hash = DigestHasher::new_sha256();
    let mut piece = vec![0; PIECE];
    loop {
        let read = reader.read(&mut piece).map_err(|cause| {
            Error::Source(store::Error::Read { what: "a model's files".to_owned(), cause })
        })?;
        if read == 0 {
            return Ok(hash.finish());
        }
        hash.update(&piece[..read]);
        progress.advance_bytes(read as u64);
    }
}

/// Makes the configs, manifests and index above the layers, and returns the index's descriptor.
fn build_index(layers: &[(Digest, u64)], documents: &mut BTreeMap<Digest, Vec<u8>>) -> Descriptor {
    let mut put = |value: serde_json::Value| {
        let bytes = value.to_string().into_bytes();
        let (digest, size) = (sha256(&bytes), bytes.len() as u64);
        documents.insert(digest, bytes);
        (digest, size)
    };
    let descriptor = |media_type: &str, (digest, size): (Digest, u64)| json!({"mediaType": media_type, "digest": digest, "size": size});
    let diff_ids: Vec<Digest> = layers.iter().map(|(digest, _)| *digest).collect();
    let blobs: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, *layer)).collect();
    let manifests = ARCHITECTURES.map(|architecture| {
        let config = put(json!({
            "created": "1970-01-01T00:00:00Z", "architecture": architecture, "os": "linux",
            "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}));
        let manifest = put(json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(media_type::OCI_CONFIG, config), "layers": blobs}));
        let mut manifest = descriptor(media_type::OCI_MANIFEST, manifest);
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        manifest
    });
    let (digest, size) = put(json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests}));
    Descriptor::new(media_type::OCI_INDEX, digest, size)
}

impl Source for ModelImage {
    fn roots(&self) -> store::Result<Vec<Root>> {
        Ok(vec![self.root.clone()])
    }

    fn blob_size(&self, digest: &Digest) -> store::Result<Option<u64>> {
        let document = self.documents.get(digest).map(|bytes| bytes.len() as u64);
        Ok(document.or_else(|| self.layers.get(digest).map(BlobTar::size)))
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> store::Result<SourceReader> {
        let missing = store::Error::BlobMissing { digest: *digest };
        let size = self.blob_size(digest)?.ok_or(missing)?;
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(store::Error::Range { digest: *digest, start, end, size });
        }
        if let Some(bytes) = self.documents.get(digest) {
            let bytes = bytes[start as usize..end as usize].to_vec();
            return Ok(SourceReader::new(io::Cursor::new(bytes), end - start));
        }
        let layer = self.layers.get(digest).ok_or(store::Error::BlobMissing { digest: *digest })?;
        Ok(SourceReader::new(layer.open_range(&self.source, start..end), end - start))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;
    use store::progress::SilentProgress;
    use types::site::ModelLayout;

    use super::super::test_source::{COMMIT, MemorySource};
    use super::super::{ModelSelection, plan_models};
    use super::*;

    /// A source with two models, and their plans.
    fn make_plans(layout: ModelLayout) -> (Arc<dyn Source>, Vec<ModelPlan>) {
        let mut source = MemorySource::default();
        let large = vec![7; LARGE as usize];
        let long = format!("{}/tokenizer.json", "deep/".repeat(30));
        source.add_model("o/a", COMMIT, None, &[("config.json", b"{}"), ("m.safetensors", &large)]);
        source.add_model("o/b", COMMIT, None, &[(long.trim_start_matches('/'), b"tokens")]);
        let choice = ModelSelection { layout, ..ModelSelection::default() };
        let plans = plan_models(&source, &choice).unwrap().plans;
        (Arc::new(source), plans)
    }

    fn make_image(source: &Arc<dyn Source>, plans: &[ModelPlan]) -> ModelImage {
        let name = "registry.site/models:1".parse().unwrap();
        ModelImage::new(Arc::clone(source), plans, &name, &SilentProgress).unwrap()
    }

    fn read_document(image: &ModelImage, digest: &Value) -> Value {
        let digest = digest.as_str().unwrap().parse().unwrap();
        serde_json::from_slice(&store::read_blob(image, &digest, 1 << 20).unwrap()).unwrap()
    }

    #[test]
    fn the_same_models_give_the_same_image_in_whatever_order_they_come() {
        let (source, mut plans) = make_plans(ModelLayout::HfCache);
        let first = make_image(&source, &plans);
        plans.reverse();
        assert_eq!(make_image(&source, &plans).root(), first.root());
    }

    #[test]
    fn each_platform_has_a_manifest_over_the_same_layers_whose_digests_are_the_diff_ids() {
        let (source, plans) = make_plans(ModelLayout::Flat);
        let image = make_image(&source, &plans);
        let index = read_document(&image, &json!(image.root().descriptor.digest));
        let manifests: Vec<Value> = index["manifests"].as_array().unwrap().clone();
        let layers = |entry: &Value| read_document(&image, &entry["digest"])["layers"].clone();
        assert_eq!(manifests.len(), 2);
        assert_eq!(layers(&manifests[0]), layers(&manifests[1]));
        for entry in &manifests {
            let manifest = read_document(&image, &entry["digest"]);
            let config = read_document(&image, &manifest["config"]["digest"]);
            assert_eq!(config["architecture"], entry["platform"]["architecture"]);
            let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
            let digests = manifest["layers"].as_array().unwrap().iter().map(|l| &l["digest"]);
            assert!(digests.eq(diff_ids), "{manifest}");
            // One for all small files, one for the large file.
            assert_eq!(diff_ids.len(), 2);
        }
    }

    #[test]
    fn a_layer_is_a_tar_of_folders_first_without_times_and_owners() {
        let (source, plans) = make_plans(ModelLayout::HfCache);
        let image = make_image(&source, &plans);
        let (digest, _) = image.layers.iter().min_by_key(|(_, layer)| layer.size()).unwrap();
        let bytes = store::read_blob(&image, digest, u64::MAX).unwrap();
        let (mut archive, mut seen) = (tar::Archive::new(bytes.as_slice()), BTreeMap::new());
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
                (0, 0, 0)
            );
            let path = entry.path().unwrap().into_owned();
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                assert!(seen.contains_key(parent), "{} comes before its folder", path.display());
            }
            let link = entry.link_name().unwrap().map(std::borrow::Cow::into_owned);
            seen.insert(path, link);
        }
        let link = Path::new("models--o--a/snapshots").join(COMMIT).join("config.json");
        assert!(seen[&link].as_ref().unwrap().starts_with("../../blobs"), "{seen:?}");
        assert!(seen.contains_key(Path::new("models--o--b/refs/main")), "{seen:?}");
    }

    #[test]
    fn a_range_of_a_layer_is_that_part_of_the_whole() {
        let (source, plans) = make_plans(ModelLayout::Flat);
        let image = make_image(&source, &plans);
        let (digest, layer) = image.layers.iter().max_by_key(|(_, layer)| layer.size()).unwrap();
        let whole = store::read_blob(&image, digest, u64::MAX).unwrap();
        assert_eq!((whole.len() as u64, sha256(&whole)), (layer.size(), *digest));
        // Around the borders of the pieces: header, content, end.
        let borders =
            [0, 1, 511, 512, 513, LARGE + 511, LARGE + 512, layer.size() - 1, layer.size()];
        for start in borders {
            for end in borders.into_iter().filter(|end| *end >= start) {
                let mut part = Vec::new();
                image.open_blob(digest, start..end).unwrap().read_to_end(&mut part).unwrap();
                assert!(part == whole[start as usize..end as usize], "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_range_beyond_the_end_and_an_unknown_digest_are_errors() {
        let (source, plans) = make_plans(ModelLayout::Flat);
        let image = make_image(&source, &plans);
        let index = image.root().descriptor.clone();
        for digest in [index.digest, *image.layers.keys().next().unwrap()] {
            let size = image.blob_size(&digest).unwrap().unwrap();
            let end = size + 1;
            let beyond = image.open_blob(&digest, 0..end).map(drop);
            assert!(matches!(beyond, Err(store::Error::Range { .. })), "{beyond:?}");
        }
        let unknown = image.open_blob(&sha256(b"unknown"), 0..0).map(drop);
        assert!(matches!(unknown, Err(store::Error::BlobMissing { .. })), "{unknown:?}");
    }
}
