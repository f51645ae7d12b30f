//! Resolves images: those of the input and those that charts name, each looked up once.

use std::collections::BTreeMap;
use std::sync::Arc;

use chart::find::Confidence;
use futures::stream::{self, StreamExt};
use remote::oci::{self, Registry, Want};
use remote::own_image::Binaries;
use types::input::{self, ImageFrom, Input};
use types::lock::{self, Seen};
use types::{Platform, Reference};

use crate::charts::Resolved;
use crate::pins::Pins;
use crate::{LOOKUPS, Problem, World, blocking};

/// An image to look up.
struct Wanted {
    reference: Reference,
    platforms: Vec<Platform>,
    want: Want,
    from: ImageFrom,
    seen: Vec<Seen>,
    /// The highest confidence of all places that name it.
    confidence: Confidence,
}

/// Resolves all images of the input and of its charts.
pub(crate) async fn resolve(
    world: &World,
    input: &Input,
    pins: &Pins<'_>,
    charts: &[Resolved],
    problems: &mut Vec<Problem>,
) -> Vec<lock::Image> {
    let outcomes: Vec<_> = stream::iter(wanted(input, charts))
        .map(|wanted| async {
            let outcome = one(world, &wanted, pins).await;
            (wanted, outcome)
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut images = Vec::new();
    for (wanted, outcome) in outcomes {
        match outcome {
            Ok(image) => {
                note_missing(world, &wanted, &image);
                images.push(lock::Image { seen: wanted.seen, ..image });
            }
            // Something that only looks like an image reference, and that no registry has, is most
            // likely not one.
            Err(cause @ remote::Error::NotFound { .. })
                if wanted.confidence < Confidence::Certain =>
            {
                let seen = wanted.seen.first();
                let place = seen.and_then(|seen| seen.field.clone().or(seen.object.clone()));
                let place = place.unwrap_or_default();
                world.progress.note(&format!(
                    "{cause}; it is left out, since it was only found at {place} and no pod uses it"
                ));
            }
            Err(cause) => {
                let by = wanted.seen.first().map(|seen| seen.by.as_str()).unwrap_or_default();
                let thing = match &wanted.seen.first().and_then(|seen| seen.template.clone()) {
                    Some(template) => format!("{} (named by {by}, {template})", wanted.reference),
                    None => wanted.reference.to_string(),
                };
                problems.push(Problem { thing, cause });
            }
        }
    }
    images
}

/// The images of the input and of the charts, each reference once. For an image in both, the input
/// decides on platforms and source.
fn wanted(input: &Input, charts: &[Resolved]) -> Vec<Wanted> {
    // Sorted by reference, so that notes and problems come in the same order each time.
    let mut all: BTreeMap<Reference, Wanted> = BTreeMap::new();
    for image in &input.images {
        let input::Image { reference, platforms, from } = image.clone();
        // An image may lack some of the platforms of the whole input, but none that are written
        // with the image itself.
        let (platforms, want) = match platforms.is_empty() {
            true => (input.platforms.clone(), Want::Any),
            false => (platforms, Want::All),
        };
        let seen = vec![Seen {
            by: "gantry.yaml".to_owned(),
            template: None,
            object: None,
            field: None,
            values: vec![],
        }];
        let confidence = Confidence::Certain;
        let wanted =
            Wanted { reference: reference.clone(), platforms, want, from, seen, confidence };
        all.insert(reference, wanted);
    }
    for named in charts.iter().flat_map(|chart| &chart.images) {
        let entry = all.entry(named.reference.clone()).or_insert_with(|| Wanted {
            reference: named.reference.clone(),
            platforms: input.platforms.clone(),
            want: Want::Any,
            from: ImageFrom::Registry,
            seen: Vec::new(),
            confidence: named.confidence,
        });
        entry.confidence = entry.confidence.max(named.confidence);
        entry.seen.push(named.seen.clone());
    }
    all.into_values().collect()
}

/// Resolves one image: by its pin, in its registry, or from a local source.
async fn one(world: &World, wanted: &Wanted, pins: &Pins<'_>) -> remote::Result<lock::Image> {
    let Wanted { reference, platforms, .. } = wanted;
    let local = match &wanted.from {
        ImageFrom::Registry => {
            if let Some(pinned) = pins.image(reference, platforms) {
                return Ok(pinned.clone());
            }
            let registry = Registry::new(&world.client, &world.mirrors, reference.registry());
            return oci::inspect(&registry, &world.store, reference, platforms, wanted.want).await;
        }
        local => local.clone(),
    };
    let (image, from) = local_image(world, wanted, local).await?;
    let descriptor = &image.root.descriptor;
    Ok(lock::Image {
        reference: reference.clone(),
        digest: descriptor.digest,
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        platforms: platforms.clone(),
        from: Some(from),
        manifests: image.manifests,
        attached: Vec::new(),
        seen: Vec::new(),
    })
}

/// Copies an image that is on this machine into the store.
async fn local_image(
    world: &World,
    wanted: &Wanted,
    from: ImageFrom,
) -> remote::Result<(remote::local::Image, lock::ImageFrom)> {
    let (reference, platforms) = (wanted.reference.clone(), wanted.platforms.clone());
    let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
    match from {
        ImageFrom::Archive(path) | ImageFrom::Layout(path) if wanted.is_layout() => {
            let from = lock::ImageFrom::Layout(path.display().to_string());
            let path = world.path(&path);
            let image = blocking(move || {
                remote::local::image_from_layout(&path, &reference, &platforms, &store, &*progress)
            })
            .await?;
            Ok((image, from))
        }
        ImageFrom::Archive(path) | ImageFrom::Layout(path) => {
            let from = lock::ImageFrom::Archive(path.display().to_string());
            let path = world.path(&path);
            let image = blocking(move || {
                remote::local::image_from_archive(&path, &reference, &platforms, &store, &*progress)
            })
            .await?;
            Ok((image, from))
        }
        ImageFrom::Docker(socket) => {
            let from = lock::ImageFrom::Docker(socket.display().to_string());
            let image = remote::local::image_from_engine(
                &world.path(&socket),
                &reference,
                &platforms,
                &store,
                progress,
            )
            .await?;
            Ok((image, from))
        }
        ImageFrom::Gantry(paths) => {
            let shown = paths.iter().map(|path| path.display().to_string()).collect();
            let binaries: Vec<_> = paths.iter().map(|path| world.path(path)).collect();
            let image = blocking(move || {
                let binaries = Binaries::open(&binaries)?;
                binaries.check_platforms(&platforms)?;
                binaries.image(&reference, &store, &*progress)
            })
            .await?;
            Ok((image, lock::ImageFrom::Gantry(shown)))
        }
        ImageFrom::Registry => Err(remote::Error::NotFound {
            what: reference.to_string(),
            hint: "it has no local source".into(),
        }),
    }
}

impl Wanted {
    fn is_layout(&self) -> bool {
        matches!(self.from, ImageFrom::Layout(_))
    }
}

/// Notes which of the wanted platforms the image does not have.
fn note_missing(world: &World, wanted: &Wanted, image: &lock::Image) {
    let have: Vec<&Platform> =
        image.manifests.iter().filter_map(|manifest| manifest.platform.as_ref()).collect();
    // An image without an index names no platforms: nothing to compare.
    if have.is_empty() {
        return;
    }
    let missing: Vec<String> = wanted
        .platforms
        .iter()
        .filter(|wanted| !have.iter().any(|have| have.satisfies(wanted)))
        .map(Platform::to_string)
        .collect();
    if !missing.is_empty() {
        let (reference, missing) = (&wanted.reference, missing.join(", "));
        world.progress.note(&format!(
            "{reference} does not exist for {missing}; its other platforms are carried"
        ));
    }
}
