//! Imports charts from registries (`oci://…`). The chart's own manifest is kept byte for byte.

use store::{Source, Store};
use types::{Descriptor, Digest, Manifest, Reference, Root, RootKind, media_type};

use super::archive::{ChartArchive, MAX_ARCHIVE};
use super::artifact::ChartArtifact;
use super::version;
use crate::oci::{self, RegistryClient};
use crate::{Error, Result};

/// A chart from a registry; all of it is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryChart {
    /// The artifact, as it is in the registry.
    pub artifact: ChartArtifact,
    /// The archive, for a render.
    pub archive: ChartArchive,
}

/// Imports a chart from a registry into the store. `repository` is the chart's repository with the
/// host (`ghcr.io/org/charts/web`); `wanted` is a version or a range, and without it the newest
/// release is chosen.
pub async fn import_chart_from_registry(
    registry: &RegistryClient,
    repository: &str,
    wanted: Option<&str>,
    store: &Store,
) -> Result<RegistryChart> {
    let reference = choose_tag(registry, repository, wanted).await?;
    let what = format!("chart {reference}");
    let fetched = registry.look_up_manifest(store, &reference).await?;
    let content = fetched
        .manifest
        .layers
        .iter()
        .find(|layer| layer.media_type == media_type::HELM_CONTENT)
        .ok_or_else(|| Error::Local {
            path: reference.to_string().into(),
            reason: "it is not a Helm chart; if it is an image, list it under images:".into(),
        })?;
    let mut archive = None;
    // All blobs: config, archive and, where it was signed, the provenance file.
    for blob in fetched.manifest.blobs() {
        let bytes = fetch_chart_blob(registry, &reference, blob, store).await?;
        if blob.digest == content.digest {
            archive = Some(ChartArchive::new(&what, bytes)?);
        }
    }
    let archive = archive.ok_or_else(|| Error::Damaged {
        what,
        reason: "its manifest has no layer with the chart archive".into(),
    })?;
    let manifest =
        crate::lock_manifest::to_lock_manifest(&fetched.descriptor, &fetched.manifest, None);
    let root = Root::new(reference, RootKind::Chart, fetched.descriptor);
    Ok(RegistryChart { artifact: ChartArtifact { root, manifest }, archive })
}

/// Reads a blob of a chart from the store, or downloads it there.
async fn fetch_chart_blob(
    registry: &RegistryClient,
    reference: &Reference,
    blob: &Descriptor,
    store: &Store,
) -> Result<Vec<u8>> {
    // What an earlier lock that failed has downloaded. A damaged blob is downloaded again.
    if blob.size <= MAX_ARCHIVE && store.blob_size(&blob.digest)? == Some(blob.size) {
        let bytes = store::read_blob(store, &blob.digest, MAX_ARCHIVE)?;
        if store::hash::has_digest(&bytes, &blob.digest) {
            return Ok(bytes);
        }
    }
    let bytes = download_chart_blob(registry, reference, blob).await?;
    store.put_document(&blob.digest, &bytes)?;
    Ok(bytes)
}

/// Downloads a blob of a chart and checks it against its digest.
async fn download_chart_blob(
    registry: &RegistryClient,
    reference: &Reference,
    blob: &Descriptor,
) -> Result<Vec<u8>> {
    let what = format!("chart {reference}");
    oci::download_document(registry, reference.repository(), &what, blob.into(), MAX_ARCHIVE).await
}

/// Chooses the tag of the wanted version; a tag has `_` where the version has `+`.
async fn choose_tag(
    registry: &RegistryClient,
    repository: &str,
    wanted: Option<&str>,
) -> Result<Reference> {
    let named = |version: &str| -> Result<Reference> {
        Ok(format!("{repository}:{}", version.replace('+', "_")).parse()?)
    };
    // An exact version needs no list of tags, which some registries do not provide.
    if let Some(exact) = wanted.filter(|wanted| semver::Version::parse(wanted).is_ok()) {
        return named(exact);
    }
    let path = named("latest")?;
    let tags = registry.list_tags(path.repository()).await?;
    if tags.is_empty() {
        return Err(Error::NotFound {
            what: format!("chart {repository}"),
            hint: format!(
                "{} lists no tags for it; check the name, or give an exact version",
                registry.host()
            ),
        });
    }
    let versions: Vec<String> = tags.iter().map(|tag| tag.replace('_', "+")).collect();
    let candidates = versions.iter().map(|version| (version.as_str(), version.as_str()));
    named(version::choose_version(repository, candidates, wanted)?)
}

/// Downloads the archive of a chart by its reference, which has the digest of the manifest. The
/// content is verified, and returned without being written to a store.
pub async fn download_archive(registry: &RegistryClient, reference: &Reference) -> Result<Vec<u8>> {
    let what = format!("chart {reference}");
    let fetched = registry.get_manifest(reference).await?;
    let layer = find_content_layer(&what, &fetched.manifest)?;
    download_chart_blob(registry, reference, &layer).await
}

/// Reads the archive of a chart from a store or bundle files. `name` is the chart's name in errors,
/// `manifest` the digest of its manifest.
pub fn read_archive(source: &dyn Source, name: &str, manifest: &Digest) -> Result<Vec<u8>> {
    let what = format!("chart {name}");
    let bytes = store::read_blob(source, manifest, Manifest::MAX_SIZE)?;
    let layer = find_content_layer(&what, &Manifest::parse(&what, &bytes)?)?;
    Ok(store::read_blob(source, &layer.digest, MAX_ARCHIVE)?)
}

/// Finds the layer with the chart archive.
fn find_content_layer(what: &str, manifest: &Manifest) -> Result<Descriptor> {
    let layer = manifest.layers.iter().find(|layer| layer.media_type == media_type::HELM_CONTENT);
    layer.cloned().ok_or_else(|| Error::Damaged {
        what: what.to_owned(),
        reason: "its manifest has no layer with the chart archive".into(),
    })
}
