//! Builds the image: the documents around the layers, and the index where there are several.

use std::path::PathBuf;

use serde_json::json;
use store::Store;
use store::hash::sha256;
use store::progress::Progress;
use types::descriptor::PlatformObject;
use types::{
    Descriptor, Digest, Manifest, Platform, Reference, Root, RootKind, annotation, media_type,
    own_image,
};

use super::binary::GantryBinary;
use super::binary::binary_error;
use super::layer;
use crate::local::ImportedImage;
use crate::lock_manifest::to_lock_manifest;
use crate::{Error, Result};

/// The time for all timestamps in the image: constant, so that the same binary gives the same
/// bytes.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// User and group: `nonroot` of the distroless images, which no host uses. Any other works as well
/// (OpenShift assigns each namespace its own).
const USER: &str = "65532:65532";

/// The binary's path in the image.
const ENTRYPOINT: &str = "/usr/bin/gantry";

/// `/tmp` is the only folder that every user may write to; with a read-only root file system a
/// volume is mounted there.
const ENVIRONMENT: [&str; 2] = ["PATH=/usr/bin", "HOME=/tmp"];

/// The binaries of an image, one for each architecture.
#[derive(Debug, Clone)]
pub struct GantryBinaries(Vec<GantryBinary>);

impl GantryBinaries {
    /// Opens and checks the binaries; without any path the one that is running. Their order does
    /// not change the image. [`Error::Local`] names a binary of which no image can be built.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let own;
        let paths = match paths {
            [] => {
                own = std::env::current_exe().map_err(|cause| Error::Read {
                    what: "the path of the running gantry".into(),
                    cause,
                })?;
                std::slice::from_ref(&own)
            }
            given => given,
        };
        let mut all =
            paths.iter().map(|path| GantryBinary::open(path)).collect::<Result<Vec<_>>>()?;
        // The order of an index is part of its digest.
        all.sort_by(|a, b| a.platform.cmp(&b.platform));
        match all.windows(2).find(|pair| pair[0].platform == pair[1].platform) {
            Some([first, second]) => {
                let (platform, other) = (&second.platform, first.path.display());
                let reason =
                    format!("it is for {platform}, like {other}; give one binary per architecture");
                Err(binary_error(&second.path, reason))
            }
            _ => Ok(Self(all)),
        }
    }

    /// Fails unless one of the binaries is for one of the platforms.
    pub fn check_platforms(&self, wanted: &[Platform]) -> Result<()> {
        let fits =
            |binary: &GantryBinary| wanted.iter().any(|wanted| binary.platform.satisfies(wanted));
        match self.0.first() {
            Some(first) if !self.0.iter().any(fits) => {
                let wanted: Vec<String> = wanted.iter().map(Platform::to_string).collect();
                let reason = format!(
                    "it is for {}, but the platforms of the input are {}; give a binary for them: \
                     `tools: [{{gantry: [FILE]}}]`",
                    first.platform,
                    wanted.join(", ")
                );
                Err(binary_error(&first.path, reason))
            }
            _ => Ok(()),
        }
    }

    /// Builds the image and writes its content to the store; the caller publishes the returned
    /// root, named `reference`. Blocks on the disk.
    pub fn build_image(
        &self,
        reference: &Reference,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<ImportedImage> {
        let _session = store.open_session()?;
        let mut manifests = Vec::with_capacity(self.0.len());
        for binary in &self.0 {
            progress.expect_bytes(binary.size);
            manifests.push(build_platform_image(binary, store, progress)?);
        }
        let descriptor = match manifests.as_slice() {
            // One platform: the manifest itself is the image, without an index around it.
            [(only, _)] => Descriptor { platform: None, ..only.clone() },
            several => {
                build_index(several.iter().map(|(child, _)| child.clone()).collect(), store)?
            }
        };
        let root = Root::new(reference.clone(), RootKind::Image, descriptor);
        let manifests = manifests.iter().zip(&self.0).map(|((descriptor, manifest), binary)| {
            to_lock_manifest(descriptor, manifest, Some(binary.platform.clone()))
        });
        Ok(ImportedImage { root, manifests: manifests.collect(), indexes: Vec::new() })
    }
}

/// Builds the manifest for one binary; its descriptor has the platform, as an index needs it.
fn build_platform_image(
    binary: &GantryBinary,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(Descriptor, Manifest)> {
    let layer = layer::write_layer(binary, store, progress)?;
    let config =
        store_document("the config", &build_config(&binary.platform, &layer.diff_id), store)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Some(Descriptor::new(media_type::OCI_CONFIG, config.digest, config.size)),
        layers: vec![layer.blob],
        manifests: vec![],
        subject: None,
        annotations: image_labels(),
    };
    let written = store_document("the manifest", &manifest, store)?;
    let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, written.digest, written.size);
    descriptor.platform = Some(PlatformObject {
        architecture: binary.platform.architecture.clone(),
        os: binary.platform.os.clone(),
        variant: binary.platform.variant.clone(),
        os_version: None,
    });
    Ok((descriptor, manifest))
}

fn build_index(manifests: Vec<Descriptor>, store: &Store) -> Result<Descriptor> {
    let index = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        artifact_type: None,
        config: None,
        layers: vec![],
        manifests,
        subject: None,
        annotations: image_labels(),
    };
    let written = store_document("the index", &index, store)?;
    Ok(Descriptor::new(media_type::OCI_INDEX, written.digest, written.size))
}

/// The image's config (image-spec 1.1, config.md).
fn build_config(platform: &Platform, diff_id: &Digest) -> serde_json::Value {
    json!({
        "created": CREATED,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {
            "User": USER,
            "Env": ENVIRONMENT,
            "Entrypoint": [ENTRYPOINT],
            "WorkingDir": "/",
            "Labels": image_labels(),
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": CREATED, "created_by": "gantry image"}],
    })
}

/// The image's description, as labels of its config and annotations of its manifests (keys of
/// image-spec 1.1, annotations.md).
fn image_labels() -> std::collections::BTreeMap<String, String> {
    [
        (annotation::TITLE, "gantry"),
        (annotation::VERSION, own_image::VERSION),
        (annotation::SOURCE, env!("CARGO_PKG_REPOSITORY")),
        ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
        (
            "org.opencontainers.image.description",
            "Brings AI platforms into air-gapped Kubernetes clusters",
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Writes a value to the store as JSON.
fn store_document(
    what: &str,
    value: &impl serde::Serialize,
    store: &Store,
) -> Result<types::lock::Blob> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::invalid_document(format!("{what} of Gantry's own image"), error))?;
    store.put_bytes(&bytes)?;
    Ok(types::lock::Blob { digest: sha256(&bytes), size: bytes.len() as u64 })
}
