//! Charts: brought or packed, put into the store as OCI artifacts, rendered for every variant, and
//! searched for images.

use std::path::PathBuf;

use chart::find::Confidence;
use futures::stream::{self, StreamExt};
use remote::helm::{self, Archive};
use remote::oci::Registry;
use types::input::{self, ChartSource, Input};
use types::lock::{self, Seen};
use types::{Manifest, Reference, media_type};

use crate::pins::Pins;
use crate::{LOOKUPS, Problem, World, blocking};

/// The host in the names of charts that come from no registry and no repository.
const LOCAL: &str = "charts.gantry";

/// A chart that is resolved, and the images that its renders name.
pub(crate) struct Resolved {
    pub(crate) locked: lock::Chart,
    pub(crate) images: Vec<Named>,
}

/// An image that a render names.
pub(crate) struct Named {
    pub(crate) reference: Reference,
    pub(crate) seen: Seen,
    pub(crate) confidence: Confidence,
}

/// All charts of the input, rendered side by side.
pub(crate) async fn resolve(
    world: &World,
    input: &Input,
    pins: &Pins<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Resolved> {
    if input.charts.is_empty() {
        return Vec::new();
    }
    let binary = match blocking(helm::Binary::locate).await {
        Ok(binary) => binary,
        Err(cause) => {
            problems.push(Problem { thing: "charts".into(), cause });
            return Vec::new();
        }
    };
    let outcomes: Vec<_> = stream::iter(&input.charts)
        .map(|chart| {
            let binary = binary.clone();
            async move { (chart, one(world, chart, pins, binary).await) }
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut resolved = Vec::new();
    for (chart, outcome) in outcomes {
        match outcome {
            Ok(one) => resolved.push(one),
            Err(cause) => problems.push(Problem { thing: shown(&chart.source), cause }),
        }
    }
    resolved
}

async fn one(
    world: &World,
    chart: &input::Chart,
    pins: &Pins<'_>,
    binary: helm::Binary,
) -> remote::Result<Resolved> {
    let (text, name) = words(&chart.source);
    let requested = chart.version.as_deref();
    let pinned = match chart.source {
        // A folder may have changed under the same words.
        ChartSource::Local(_) => None,
        _ => pins.chart(&text, name.as_deref(), requested),
    };
    let (reference, manifest, version, chart_name) = match pinned {
        Some(pinned) => {
            let name = pinned.reference.repository().rsplit('/').next().unwrap_or_default();
            let manifest = pinned.manifest.clone();
            (pinned.reference.clone(), manifest, pinned.version.clone(), name.to_owned())
        }
        None => bring(world, chart).await?,
    };
    let locked = lock::Chart {
        chart: text,
        name,
        requested: chart.version.clone(),
        version,
        release: chart.release.clone().unwrap_or_else(|| chart_name.clone()),
        namespace: chart.namespace.clone(),
        reference,
        manifest,
    };
    let images = render(world, chart, &locked, binary).await?;
    Ok(Resolved { locked, images })
}

/// Brings a chart into the store: its name as an artifact, manifest, version and own name.
async fn bring(
    world: &World,
    chart: &input::Chart,
) -> remote::Result<(Reference, lock::Manifest, String, String)> {
    match &chart.source {
        ChartSource::Oci { repository } => {
            let host = repository.split('/').next().unwrap_or(repository);
            let registry = Registry::new(&world.client, &world.mirrors, host);
            let wanted = chart.version.as_deref();
            let found = helm::from_registry(&registry, repository, wanted, &world.store).await?;
            let metadata = found.archive.metadata;
            let artifact = found.artifact;
            Ok((artifact.root.name, artifact.manifest, metadata.version, metadata.name))
        }
        ChartSource::Repository { url, name } => {
            let repository = helm::Repository::new(&world.client, url)?;
            let found = repository.index().await?.choose(name, chart.version.as_deref())?;
            let archive = repository.download(&found).await?;
            keep(world, archive, helm::artifact_repository(url)?).await
        }
        ChartSource::Local(path) => {
            let path = world.path(path);
            let archive =
                blocking(
                    move || {
                        if path.is_dir() { helm::package(&path) } else { Archive::read(&path) }
                    },
                )
                .await?;
            keep(world, archive, LOCAL.to_owned()).await
        }
    }
}

async fn keep(
    world: &World,
    archive: Archive,
    repository: String,
) -> remote::Result<(Reference, lock::Manifest, String, String)> {
    let target = world.store.clone();
    blocking(move || {
        let artifact = helm::artifact(&archive, &repository, &target)?;
        let metadata = archive.metadata;
        Ok((artifact.root.name, artifact.manifest, metadata.version, metadata.name))
    })
    .await
}

/// Renders the chart as it stands in the store (what is carried is what was looked at), with its
/// values and with every variant, and gives the images of all renders.
async fn render(
    world: &World,
    chart: &input::Chart,
    locked: &lock::Chart,
    binary: helm::Binary,
) -> remote::Result<Vec<Named>> {
    let archive = archive(world, locked).await?;
    let release = |variant: &[PathBuf]| helm::Release {
        chart: archive.clone(),
        name: locked.release.clone(),
        namespace: chart.namespace.clone(),
        kube_version: chart.kube_version.clone(),
        api_versions: chart.api_versions.clone(),
        values: chart.values.iter().chain(variant).map(|path| world.path(path)).collect(),
        set: chart.set.clone(),
    };
    let mut renders = vec![release(&[])];
    renders.extend(chart.variants.iter().map(|variant| release(variant)));
    let rendered: Vec<_> = stream::iter(renders)
        .map(|release| {
            let binary = binary.clone();
            blocking(move || binary.template(&release))
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut images = Vec::new();
    for text in rendered {
        let text = text.map_err(|error| named(error, chart))?;
        let findings = chart::find::images(&text);
        for broken in &findings.broken {
            let place = &broken.place;
            world.progress.note(&format!(
                "{}: {}/{} has no image at {}: {:?} {}",
                locked.release, place.kind, place.name, place.path, broken.text, broken.reason
            ));
        }
        images.extend(findings.images.into_iter().filter(is_pulled).map(|found| {
            let place = found.place;
            let seen = Seen {
                by: locked.release.clone(),
                template: place.template,
                object: Some(format!("{}/{}", place.kind, place.name)),
                field: Some(place.path.to_string()),
            };
            Named { reference: found.reference, seen, confidence: found.confidence }
        }));
    }
    Ok(images)
}

/// Where the chart's archive is in the store.
async fn archive(world: &World, locked: &lock::Chart) -> remote::Result<PathBuf> {
    let (source, digest) = (world.store.clone(), locked.manifest.digest);
    let bytes = blocking(move || store::document(&source, &digest, Manifest::MAX_SIZE)).await?;
    let manifest = Manifest::parse(&locked.reference.to_string(), &bytes)?;
    let layer = manifest.layers.iter().find(|layer| layer.media_type == media_type::HELM_CONTENT);
    match layer {
        Some(layer) => Ok(world.store.blob_path(&layer.digest)),
        None => Err(remote::Error::NotFound {
            what: format!("the archive of {}", locked.reference),
            hint: format!("its manifest has no layer of the type {}", media_type::HELM_CONTENT),
        }),
    }
}

/// What the kubelet or an operator will pull; a mere possibility is for a person to add.
fn is_pulled(found: &chart::find::Found) -> bool {
    found.confidence >= Confidence::Likely
}

/// helm's message names the blob in the store; people know the chart by another name.
fn named(error: remote::Error, chart: &input::Chart) -> remote::Error {
    match error {
        remote::Error::Render { message, .. } => {
            remote::Error::Render { chart: shown(&chart.source), message }
        }
        other => other,
    }
}

/// The chart as the lock has it: its words, and its name in a repository.
fn words(source: &ChartSource) -> (String, Option<String>) {
    match source {
        ChartSource::Oci { repository } => (format!("oci://{repository}"), None),
        ChartSource::Repository { url, name } => (url.clone(), Some(name.clone())),
        ChartSource::Local(path) => (path.display().to_string(), None),
    }
}

pub(crate) fn shown(source: &ChartSource) -> String {
    match words(source) {
        (url, Some(name)) => format!("{name} of {url}"),
        (text, None) => text,
    }
}
