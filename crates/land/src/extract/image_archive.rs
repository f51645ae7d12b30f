//! An image as one archive that every tool reads: an OCI image layout in a tar (image-spec,
//! image-layout.md; `skopeo … oci-archive:`, `ctr image import`, `podman load`) with the `manifest.json`
//! of `docker save` beside it, whose paths lead into the same blobs, as docker 25 and later write it
//! (`docker load`, `skopeo … docker-archive:`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use store::{Source, find_closure, read_blob};
use types::descriptor::PlatformObject;
use types::lock::Blob;
use types::{Descriptor, Digest, DigestAlgorithm, Index, Manifest, Platform, Root, media_type};

use super::error::{Result, disk_error};
use crate::blob_tar::{BlobTar, BlobTarBuilder};

/// The content of `oci-layout`.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An archive, and the platform that tools without indexes get from it.
pub(super) struct ExtractedArchive {
    pub(super) tar: BlobTar,
    /// Absent for what is no image, or an image without a platform.
    pub(super) platform: Option<Platform>,
}

/// Makes the archive of a root. `wanted` is the platform for `docker load`, which reads one; the others
/// are in the archive as well.
pub(super) fn build_image_archive(
    source: &dyn Source,
    root: &Root,
    wanted: Option<&Platform>,
) -> Result<ExtractedArchive> {
    let closure = find_closure(source, root)?;
    let index = Index { manifests: vec![root.descriptor.clone()], ..Index::default() };
    let index = serde_json::to_vec(&index).map_err(to_document_error)?;
    let chosen = choose_image(source, root, &closure.manifests, wanted)?;

    let mut tar = BlobTarBuilder::default();
    let failed = |path: &'static str| disk_error(Path::new(path));
    tar.add_bytes(Path::new("oci-layout"), LAYOUT).map_err(failed("oci-layout"))?;
    tar.add_bytes(Path::new("index.json"), &index).map_err(failed("index.json"))?;
    let mut platform = None;
    if let Some(image) = chosen {
        let paths: Vec<String> = image.layers.iter().map(Digest::layout_path).collect();
        // Docker loads an image that has no name as well.
        let names: Vec<String> =
            root.name.tag().map(|tag| format!("{}:{tag}", root.name.name())).into_iter().collect();
        let document = json!([{
            "Config": image.config.layout_path(), "RepoTags": names, "Layers": paths}]);
        let bytes = document.to_string().into_bytes();
        tar.add_bytes(Path::new("manifest.json"), &bytes).map_err(failed("manifest.json"))?;
        platform = image.platform;
    }
    let used: BTreeSet<DigestAlgorithm> =
        closure.descriptors().map(|descriptor| descriptor.digest.algorithm()).collect();
    for folder in std::iter::once("blobs").chain(used.iter().map(|used| used.layout_folder())) {
        tar.add_folder(Path::new(folder)).map_err(disk_error(Path::new(folder)))?;
    }
    for descriptor in closure.descriptors() {
        let path = PathBuf::from(descriptor.digest.layout_path());
        let blob = Blob { digest: descriptor.digest, size: descriptor.size };
        tar.add_file(&path, blob).map_err(disk_error(&path))?;
    }
    Ok(ExtractedArchive { tar: tar.finish(), platform })
}

/// An image for `manifest.json`.
struct DockerImage {
    config: Digest,
    layers: Vec<Digest>,
    platform: Option<Platform>,
}

/// The image of the wanted platform, else that of this machine, else the first.
fn choose_image(
    source: &dyn Source,
    root: &Root,
    manifests: &[Descriptor],
    wanted: Option<&Platform>,
) -> Result<Option<DockerImage>> {
    let own = Platform {
        os: "linux".to_owned(),
        architecture: match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        }
        .to_owned(),
        variant: None,
    };
    let mut images = Vec::new();
    for descriptor in manifests.iter().filter(|one| !media_type::is_index(&one.media_type)) {
        let platform = descriptor.platform.as_ref().and_then(PlatformObject::to_platform);
        // In an index, what has no platform is an attestation.
        if platform.is_none() && descriptor.digest != root.descriptor.digest {
            continue;
        }
        let bytes = read_blob(source, &descriptor.digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let Some(config) = manifest.config else { continue };
        if !matches!(config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
        {
            continue;
        }
        let layers = manifest.layers.iter().map(|layer| layer.digest).collect();
        images.push(DockerImage { config: config.digest, layers, platform });
    }
    let position = |platform: &Platform| {
        images
            .iter()
            .position(|image| image.platform.as_ref().is_some_and(|own| own.satisfies(platform)))
    };
    let at = wanted.and_then(position).or_else(|| position(&own)).unwrap_or(0);
    Ok(if images.is_empty() { None } else { Some(images.swap_remove(at)) })
}

fn to_document_error(cause: serde_json::Error) -> types::Error {
    types::Error::Document {
        document: "index.json".to_owned(),
        line: 0,
        column: 0,
        message: cause.into(),
    }
}
