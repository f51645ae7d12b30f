//! Resolves charts: they are downloaded or packaged, stored as OCI artifacts, rendered for every
//! variant, and searched for images.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chart::OperatorRules;
use chart::find::FoundImage;
use futures::stream::{self, StreamExt};
use remote::helm::{self, ChartArchive};
use remote::oci::RegistryClient;
use types::input::{self, ChartSource, Input};
use types::lock;
use types::{Digest, Manifest, Reference, media_type};

use crate::ResolveProblem;
use crate::context::{LOOKUPS, ResolveContext, resolve_path_from, run_blocking};
use crate::opened_chart::OpenedChart;
use crate::pins::LockPins;
use crate::release_images::ReleaseImages;

/// The registry host in the names of charts that come from local folders and archives.
const LOCAL: &str = "charts.gantry";
/// The release name where none was given and the chart is not read yet; `helm template` uses the
/// same.
const RELEASE: &str = "release-name";

/// A resolved chart, and the images that its renders name.
pub(crate) struct ResolvedChart {
    pub(crate) locked: lock::LockedChart,
    pub(crate) images: ReleaseImages,
}

/// Resolves all charts of the input, several at once. The images of those that have no `include:` of
/// their own are added to `common`.
pub(crate) async fn resolve_charts(
    world: &ResolveContext,
    input: &Input,
    pins: &LockPins<'_>,
    common: &mut BTreeSet<Reference>,
    problems: &mut Vec<ResolveProblem>,
) -> Vec<ResolvedChart> {
    if input.charts.is_empty() {
        return Vec::new();
    }
    // helm is only needed, and only looked for, when there are charts.
    let binary = match run_blocking(helm::HelmBinary::locate).await {
        Ok(binary) => binary,
        Err(cause) => {
            problems.push(ResolveProblem { thing: "charts".into(), cause });
            return Vec::new();
        }
    };
    let rules = Arc::new(OperatorRules::from_input(input));
    let outcomes: Vec<_> = stream::iter(&input.charts)
        .map(|chart| {
            let binary = binary.clone();
            let rules = &rules;
            async move {
                let outcome = resolve_chart(world, input, chart, pins, binary, rules).await;
                (chart, outcome)
            }
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut resolved = Vec::new();
    for (chart, outcome) in outcomes {
        match outcome {
            Ok(one) => {
                if chart.include.is_none() {
                    common.extend(one.images.references().cloned());
                }
                resolved.push(one);
            }
            Err(cause) => {
                problems.push(ResolveProblem { thing: format_source(&chart.source), cause });
            }
        }
    }
    resolved
}

/// Resolves one chart, by its pin where there is one, and finds its images.
async fn resolve_chart(
    world: &ResolveContext,
    input: &Input,
    chart: &input::InputChart,
    pins: &LockPins<'_>,
    binary: helm::HelmBinary,
    rules: &Arc<OperatorRules>,
) -> remote::Result<ResolvedChart> {
    let (text, name) = chart.source.locked_name();
    let requested = chart.version.as_deref();
    let pinned = match chart.source {
        // A local folder may have changed under the same path.
        ChartSource::Local(_) => None,
        _ => pins.pinned_chart(&text, name.as_deref(), requested),
    };
    let FetchedChart { reference, manifest, version, name: chart_name, from } = match pinned {
        Some(pinned) => {
            // The last part of the artifact's repository is the chart's name, as `helm push` makes
            // it.
            let name = pinned.reference.repository().rsplit('/').next().unwrap_or_default();
            FetchedChart {
                reference: pinned.reference.clone(),
                manifest: pinned.manifest.clone(),
                version: pinned.version.clone(),
                name: name.to_owned(),
                from: pinned.from.clone(),
            }
        }
        None => fetch_chart(world, chart).await?,
    };
    let locked = lock::LockedChart {
        chart: text,
        name,
        requested: chart.version.clone(),
        version,
        release: chart.release.clone().unwrap_or_else(|| chart_name.clone()),
        namespace: chart.namespace.clone(),
        from,
        reference,
        manifest,
    };
    let found = find_chart_images(world, chart, &locked, binary, rules).await?;
    let images = ReleaseImages::select(&locked.release, found, chart.include.as_ref(), input)?;
    Ok(ResolvedChart { locked, images })
}

/// A chart that is in the store.
struct FetchedChart {
    reference: Reference,
    manifest: lock::LockedManifest,
    version: String,
    /// Its own name.
    name: String,
    /// The repository in a registry that a chart repository's index names for it.
    from: Option<String>,
}

/// Downloads or packages a chart into the store.
async fn fetch_chart(
    world: &ResolveContext,
    chart: &input::InputChart,
) -> remote::Result<FetchedChart> {
    match &chart.source {
        ChartSource::Oci { repository } => {
            import_registry_chart(world, repository, chart.version.as_deref())
                .await
                .map(|(found, _)| found)
        }
        ChartSource::Repository { url, name } => {
            let repository = helm::ChartRepository::new(&world.client, url.expose_secrets())?;
            let found =
                repository.fetch_index().await?.choose_version(name, chart.version.as_deref())?;
            if let Some((location, version)) = found.registry_location() {
                return import_indexed_chart(world, &found, &location, &version).await;
            }
            let archive = repository.download_chart(&found, &world.store).await?;
            store_chart(world, archive, helm::derive_artifact_repository(url.expose_secrets())?)
                .await
        }
        ChartSource::Local(path) => {
            let path = world.resolve_path(path);
            let archive = run_blocking(move || {
                if path.is_dir() { helm::package_chart(&path) } else { ChartArchive::read(&path) }
            })
            .await?;
            store_chart(world, archive, LOCAL.to_owned()).await
        }
    }
}

/// Imports a chart from a registry; also returns its archive's digest.
async fn import_registry_chart(
    world: &ResolveContext,
    repository: &str,
    version: Option<&str>,
) -> remote::Result<(FetchedChart, Digest)> {
    let host = repository.split('/').next().unwrap_or(repository);
    let registry = RegistryClient::new(&world.client, &world.mirrors, host);
    let found =
        helm::import_chart_from_registry(&registry, repository, version, &world.store).await?;
    let digest = found.archive.digest();
    let metadata = found.archive.metadata;
    let fetched = FetchedChart {
        reference: found.artifact.root.name,
        manifest: found.artifact.manifest,
        version: metadata.version,
        name: metadata.name,
        from: None,
    };
    Ok((fetched, digest))
}

/// Imports a chart that the index of a chart repository has in a registry.
async fn import_indexed_chart(
    world: &ResolveContext,
    entry: &helm::RepositoryChart,
    location: &str,
    version: &str,
) -> remote::Result<FetchedChart> {
    let (found, actual) = import_registry_chart(world, location, Some(version)).await?;
    if let Some(expected) = entry.digest
        && expected != actual
    {
        return Err(remote::Error::DigestMismatch {
            server: location.to_owned(),
            what: format!("chart {} {}", entry.name, entry.version),
            expected: expected.to_string(),
            actual: actual.to_string(),
        });
    }
    Ok(FetchedChart { from: Some(format!("oci://{location}")), ..found })
}

/// Stores a chart archive as the OCI artifact that `helm push` would make of it.
async fn store_chart(
    world: &ResolveContext,
    archive: ChartArchive,
    repository: String,
) -> remote::Result<FetchedChart> {
    let target = world.store.clone();
    run_blocking(move || {
        let artifact = helm::store_chart_artifact(&archive, &repository, &target)?;
        let metadata = archive.metadata;
        Ok(FetchedChart {
            reference: artifact.root.name,
            manifest: artifact.manifest,
            version: metadata.version,
            name: metadata.name,
            from: None,
        })
    })
    .await
}

/// Renders the chart from the store with its values and with every variant, and returns the images
/// of all renders. (From the store, not its source, so that exactly what is carried was searched.)
async fn find_chart_images(
    world: &ResolveContext,
    chart: &input::InputChart,
    locked: &lock::LockedChart,
    binary: helm::HelmBinary,
    rules: &Arc<OperatorRules>,
) -> remote::Result<Vec<FoundImage>> {
    let archive = chart_archive_path(world, &locked.reference, &locked.manifest).await?;
    let chart = &input::InputChart { release: Some(locked.release.clone()), ..chart.clone() };
    // The first render has the values alone, without any variant.
    let variants = std::iter::once(&[][..]).chain(chart.variants.iter().map(Vec::as_slice));
    let inspected: Vec<_> = stream::iter(variants)
        .map(|variant| {
            let (binary, rules) = (binary.clone(), Arc::clone(rules));
            let given = helm_release(&world.base, chart, variant, &locked.release, archive.clone());
            run_blocking(move || OpenedChart::open(binary, given?)?.inspect(&rules))
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut images = Vec::new();
    for inspection in inspected {
        let findings = inspection.map_err(|error| name_chart_in_error(error, chart))?.findings;
        for broken in &findings.broken {
            let place = &broken.place;
            world.progress.add_note(&format!(
                "{}: {}/{} has no valid image at {}: {:?} {}",
                locked.release, place.kind, place.name, place.path, broken.text, broken.reason
            ));
        }
        images.extend(findings.images);
    }
    Ok(images)
}

/// The arguments for helm for a chart of the input, with the further values files of a variant.
fn helm_release(
    base: &Path,
    chart: &input::InputChart,
    variant: &[PathBuf],
    name: &str,
    archive: PathBuf,
) -> remote::Result<helm::ReleaseSpec> {
    let mut set = chart.set.clone();
    for expression in &mut set.files {
        let rewritten =
            helm::rewrite_set_file_paths(expression, &mut |path| Ok(resolve_path_from(base, path)));
        *expression = rewritten.map_err(|message| remote::Error::Render {
            chart: archive.display().to_string(),
            message,
        })?;
    }
    let files = chart.values.iter().chain(variant);
    Ok(helm::ReleaseSpec {
        chart: archive,
        name: name.to_owned(),
        namespace: chart.namespace.clone(),
        kube_version: chart.kube_version.clone(),
        api_versions: chart.api_versions.clone(),
        values: files.map(|path| resolve_path_from(base, path)).collect(),
        set,
    })
}

/// Opens a local chart, where it is, with its values and those of a variant.
pub fn open_local_chart(
    base: &Path,
    chart: &input::InputChart,
    path: &Path,
    variant: &[PathBuf],
    binary: helm::HelmBinary,
) -> remote::Result<OpenedChart> {
    let path = resolve_path_from(base, path);
    if !path.exists() {
        return Err(remote::Error::Local {
            path,
            reason:
                "there is no such chart here; give a folder, a .tgz, oci://…, or an https repository \
                     with the chart's name"
                    .into(),
        });
    }
    let given = helm_release(base, chart, variant, release_name(chart), path)?;
    OpenedChart::open(binary, given).map_err(|error| name_chart_in_error(error, chart))
}

/// Opens a chart from anywhere, as [`open_local_chart`]. A remote one is downloaded into the store first.
pub async fn open_chart(
    world: &ResolveContext,
    chart: &input::InputChart,
    variant: &[PathBuf],
    binary: helm::HelmBinary,
) -> remote::Result<OpenedChart> {
    let (chart, variant, base) = (chart.clone(), variant.to_vec(), world.base.clone());
    if let ChartSource::Local(path) = &chart.source {
        let path = path.clone();
        return run_blocking(move || open_local_chart(&base, &chart, &path, &variant, binary))
            .await;
    }
    let found = fetch_chart(world, &chart).await?;
    let archive = chart_archive_path(world, &found.reference, &found.manifest).await?;
    let name = chart.release.clone().unwrap_or(found.name);
    let given = helm_release(&base, &chart, &variant, &name, archive)?;
    run_blocking(move || {
        OpenedChart::open(binary, given).map_err(|error| name_chart_in_error(error, &chart))
    })
    .await
}

/// The release name for a chart whose own name is not known yet.
fn release_name(chart: &input::InputChart) -> &str {
    chart.release.as_deref().unwrap_or(RELEASE)
}

/// The path of the chart's archive in the store.
async fn chart_archive_path(
    world: &ResolveContext,
    reference: &Reference,
    manifest: &lock::LockedManifest,
) -> remote::Result<PathBuf> {
    let (source, digest) = (world.store.clone(), manifest.digest);
    let bytes =
        run_blocking(move || store::read_blob(&source, &digest, Manifest::MAX_SIZE)).await?;
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

/// Names the chart of a render error as the user knows it: helm's message has the path of the blob
/// in the store.
fn name_chart_in_error(error: remote::Error, chart: &input::InputChart) -> remote::Error {
    match error {
        remote::Error::Render { message, .. } => {
            remote::Error::Render { chart: format_source(&chart.source), message }
        }
        other => other,
    }
}

/// The chart's source for messages.
pub(crate) fn format_source(source: &ChartSource) -> String {
    match source.locked_name() {
        (url, Some(name)) => format!("{name} of {url}"),
        (text, None) => text,
    }
}
