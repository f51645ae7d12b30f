//! Resolves charts: they are downloaded or packaged, stored as OCI artifacts, rendered for every
//! variant, and searched for images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chart::Rules;
use chart::find::Confidence;
use futures::stream::{self, StreamExt};
use remote::helm::{self, Archive};
use remote::oci::Registry;
use types::input::{self, ChartSource, Input};
use types::lock::{self, Seen};
use types::{Manifest, Reference, media_type};

use crate::pins::Pins;
use crate::release::Release;
use crate::{LOOKUPS, Problem, World, blocking, path_from};

/// The registry host in the names of charts that come from local folders and archives.
const LOCAL: &str = "charts.gantry";
/// The release name where none was given and the chart is not read yet; `helm template` uses the
/// same.
const RELEASE: &str = "release-name";

/// A resolved chart, and the images that its renders name.
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

/// Resolves all charts of the input, several at once.
pub(crate) async fn resolve(
    world: &World,
    input: &Input,
    pins: &Pins<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Resolved> {
    if input.charts.is_empty() {
        return Vec::new();
    }
    // helm is only needed, and only looked for, when there are charts.
    let binary = match blocking(helm::Binary::locate).await {
        Ok(binary) => binary,
        Err(cause) => {
            problems.push(Problem { thing: "charts".into(), cause });
            return Vec::new();
        }
    };
    let rules = Arc::new(Rules::of_input(input));
    let outcomes: Vec<_> = stream::iter(&input.charts)
        .map(|chart| {
            let binary = binary.clone();
            let rules = &rules;
            async move { (chart, one(world, chart, pins, binary, rules).await) }
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

/// Resolves one chart, by its pin where there is one, and finds its images.
async fn one(
    world: &World,
    chart: &input::Chart,
    pins: &Pins<'_>,
    binary: helm::Binary,
    rules: &Arc<Rules>,
) -> remote::Result<Resolved> {
    let (text, name) = words(&chart.source);
    let requested = chart.version.as_deref();
    let pinned = match chart.source {
        // A local folder may have changed under the same path.
        ChartSource::Local(_) => None,
        _ => pins.chart(&text, name.as_deref(), requested),
    };
    let (reference, manifest, version, chart_name) = match pinned {
        Some(pinned) => {
            // The last part of the artifact's repository is the chart's name, as `helm push` makes
            // it.
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
    let images = render(world, chart, &locked, binary, rules).await?;
    Ok(Resolved { locked, images })
}

/// Downloads or packages a chart into the store. Returns its reference, manifest, version and its
/// own name.
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

/// Stores a chart archive as the OCI artifact that `helm push` would make of it.
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

/// Renders the chart from the store with its values and with every variant, and returns the images
/// of all renders. (From the store, not its source, so that exactly what is carried was searched.)
async fn render(
    world: &World,
    chart: &input::Chart,
    locked: &lock::Chart,
    binary: helm::Binary,
    rules: &Arc<Rules>,
) -> remote::Result<Vec<Named>> {
    let archive = archive(world, &locked.reference, &locked.manifest).await?;
    let chart = &input::Chart { release: Some(locked.release.clone()), ..chart.clone() };
    // The first render has the values alone, without any variant.
    let variants = std::iter::once(&[][..]).chain(chart.variants.iter().map(Vec::as_slice));
    let inspected: Vec<_> = stream::iter(variants)
        .map(|variant| {
            let (binary, rules) = (binary.clone(), Arc::clone(rules));
            let given = release(&world.base, chart, variant, &locked.release, archive.clone());
            blocking(move || Release::open(binary, given)?.inspect(&rules))
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut images = Vec::new();
    for inspection in inspected {
        let findings = inspection.map_err(|error| named(error, chart))?.findings;
        for broken in &findings.broken {
            let place = &broken.place;
            world.progress.note(&format!(
                "{}: {}/{} has no valid image at {}: {:?} {}",
                locked.release, place.kind, place.name, place.path, broken.text, broken.reason
            ));
        }
        images.extend(findings.images.into_iter().filter(is_pulled).map(|found| {
            let place = found.place;
            let field = place.path.to_string();
            let seen = Seen {
                by: locked.release.clone(),
                template: place.template,
                object: Some(format!("{}/{}", place.kind, place.name)),
                field: Some(field).filter(|field| !field.is_empty()),
                values: found.values.iter().map(ToString::to_string).collect(),
            };
            Named { reference: found.reference, seen, confidence: found.confidence }
        }));
    }
    Ok(images)
}

/// The arguments for helm for a chart of the input, with the further values files of a variant.
fn release(
    base: &Path,
    chart: &input::Chart,
    variant: &[PathBuf],
    name: &str,
    archive: PathBuf,
) -> helm::Release {
    let files = chart.values.iter().chain(variant);
    helm::Release {
        chart: archive,
        name: name.to_owned(),
        namespace: chart.namespace.clone(),
        kube_version: chart.kube_version.clone(),
        api_versions: chart.api_versions.clone(),
        values: files.map(|path| path_from(base, path)).collect(),
        set: chart.set.clone(),
    }
}

/// Opens a local chart, where it is, with its values and those of a variant.
pub fn open_local(
    base: &Path,
    chart: &input::Chart,
    path: &Path,
    variant: &[PathBuf],
    binary: helm::Binary,
) -> remote::Result<Release> {
    let path = path_from(base, path);
    if !path.exists() {
        return Err(remote::Error::Local {
            path,
            reason:
                "there is no such chart here; give a folder, a .tgz, oci://…, or an https repository \
                     with the chart's name"
                    .into(),
        });
    }
    let given = release(base, chart, variant, name(chart), path);
    Release::open(binary, given).map_err(|error| named(error, chart))
}

/// Opens a chart from anywhere, as [`open_local`]. A remote one is downloaded into the store first.
pub async fn open_chart(
    world: &World,
    chart: &input::Chart,
    variant: &[PathBuf],
    binary: helm::Binary,
) -> remote::Result<Release> {
    let (chart, variant, base) = (chart.clone(), variant.to_vec(), world.base.clone());
    if let ChartSource::Local(path) = &chart.source {
        let path = path.clone();
        return blocking(move || open_local(&base, &chart, &path, &variant, binary)).await;
    }
    let (reference, manifest, _, own_name) = bring(world, &chart).await?;
    let archive = archive(world, &reference, &manifest).await?;
    let name = chart.release.clone().unwrap_or(own_name);
    let given = release(&base, &chart, &variant, &name, archive);
    blocking(move || Release::open(binary, given).map_err(|error| named(error, &chart))).await
}

/// The release name for a chart whose own name is not known yet.
fn name(chart: &input::Chart) -> &str {
    chart.release.as_deref().unwrap_or(RELEASE)
}

/// The path of the chart's archive in the store.
async fn archive(
    world: &World,
    reference: &Reference,
    manifest: &lock::Manifest,
) -> remote::Result<PathBuf> {
    let (source, digest) = (world.store.clone(), manifest.digest);
    let bytes = blocking(move || store::document(&source, &digest, Manifest::MAX_SIZE)).await?;
    let manifest = Manifest::parse(&reference.to_string(), &bytes)?;
    let layer = manifest.layers.iter().find(|layer| layer.media_type == media_type::HELM_CONTENT);
    match layer {
        Some(layer) => Ok(world.store.blob_path(&layer.digest)),
        None => Err(remote::Error::NotFound {
            what: format!("the archive of {reference}"),
            hint: format!("its manifest has no layer of the type {}", media_type::HELM_CONTENT),
        }),
    }
}

/// Whether the kubelet or an operator is expected to pull the image. Mere possibilities are not
/// carried; a user can add them to `images:`.
fn is_pulled(found: &chart::find::Found) -> bool {
    found.confidence >= Confidence::Likely
}

/// Names the chart of a render error as the user knows it: helm's message has the path of the blob
/// in the store.
fn named(error: remote::Error, chart: &input::Chart) -> remote::Error {
    match error {
        remote::Error::Render { message, .. } => {
            remote::Error::Render { chart: shown(&chart.source), message }
        }
        other => other,
    }
}

/// The chart as the lock writes it: its source, and its name in an HTTP repository.
fn words(source: &ChartSource) -> (String, Option<String>) {
    match source {
        ChartSource::Oci { repository } => (format!("oci://{repository}"), None),
        ChartSource::Repository { url, name } => (url.clone(), Some(name.clone())),
        ChartSource::Local(path) => (path.display().to_string(), None),
    }
}

/// The chart's source for messages.
pub(crate) fn shown(source: &ChartSource) -> String {
    match words(source) {
        (url, Some(name)) => format!("{name} of {url}"),
        (text, None) => text,
    }
}
