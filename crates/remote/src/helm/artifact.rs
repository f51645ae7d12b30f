//! Stores a chart as an OCI artifact. It is what `helm push` creates, except for the time of
//! creation: so the same archive always gives the same manifest, and `helm pull oci://` accepts it.

use std::collections::BTreeMap;

use store::Store;
use store::hash::sha256;
use types::{Descriptor, Manifest, Reference, Root, RootKind, annotation, lock, media_type};

use super::{ChartArchive, ChartMetadata};
use crate::{Error, Result};

/// A chart in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartArtifact {
    /// The root to publish.
    pub root: Root,
    /// The manifest as a lock describes it.
    pub manifest: lock::LockedManifest,
}

/// Writes a chart's archive to the store, with its config and manifest. `repository` is the
/// artifact's repository without the chart's name (`charts.example/stable`); its reference becomes
/// `<repository>/<chart>:<version>`, with `_` for a `+` in the version. Blocks on the disk.
pub fn store_chart_artifact(
    archive: &ChartArchive,
    repository: &str,
    store: &Store,
) -> Result<ChartArtifact> {
    let metadata = &archive.metadata;
    let name = format!("{repository}/{}", metadata.name).to_ascii_lowercase();
    let reference = format!("{name}:{}", metadata.tag()).parse::<Reference>()?;

    let config = metadata.to_json()?;
    store.put_bytes(&config)?;
    let mut layers = vec![put_document(store, media_type::HELM_CONTENT, &archive.bytes)?];
    if let Some(provenance) = &archive.provenance {
        layers.push(put_document(store, media_type::HELM_PROVENANCE, provenance)?);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Some(Descriptor::new(
            media_type::HELM_CONFIG,
            sha256(&config),
            config.len() as u64,
        )),
        layers,
        manifests: vec![],
        subject: None,
        annotations: build_annotations(metadata),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| {
        Error::invalid_document(format!("the manifest of chart {reference}"), error)
    })?;
    let descriptor = put_document(store, media_type::OCI_MANIFEST, &bytes)?;
    let manifest = crate::lock_manifest::to_lock_manifest(&descriptor, &manifest, None);
    Ok(ChartArtifact { root: Root::new(reference, RootKind::Chart, descriptor), manifest })
}

fn put_document(store: &Store, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    let digest = store.put_bytes(bytes)?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

/// The annotations that `helm push` writes (helm 3.22, pkg/registry/util.go,
/// `generateChartOCIAnnotations`), without `created`.
fn build_annotations(metadata: &ChartMetadata) -> BTreeMap<String, String> {
    [
        (annotation::TITLE, &metadata.name),
        (annotation::VERSION, &metadata.version),
        ("org.opencontainers.image.description", &metadata.description),
        ("org.opencontainers.image.url", &metadata.home),
    ]
    .into_iter()
    .filter(|(_, value)| !value.trim().is_empty())
    .map(|(key, value)| (key.to_owned(), value.clone()))
    .collect()
}
