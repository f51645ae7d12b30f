//! Resolves images: those of the input and those that charts name, each looked up once.

use std::collections::BTreeMap;
use std::sync::Arc;

use chart::find::Confidence;
use futures::stream::{self, StreamExt};
use remote::oci::{self, ImageQuery, PlatformRequirement, RegistryClient};
use remote::own_image::GantryBinaries;
use types::input::{self, AttachedContent, ImageSource, Input};
use types::lock::{self, ImageMention};
use types::{Platform, Reference};

use crate::ResolveProblem;
use crate::charts::ResolvedChart;
use crate::context::{LOOKUPS, ResolveContext, run_blocking};
use crate::pins::LockPins;

/// An image to look up.
struct RequestedImage {
    reference: Reference,
    platforms: Vec<Platform>,
    want: PlatformRequirement,
    attached: AttachedContent,
    from: ImageSource,
    seen: Vec<ImageMention>,
    /// The highest confidence of all places that name it.
    confidence: Confidence,
}

/// Resolves all images of the input and of its charts.
pub(crate) async fn resolve_images(
    world: &ResolveContext,
    input: &Input,
    pins: &LockPins<'_>,
    charts: &[ResolvedChart],
    problems: &mut Vec<ResolveProblem>,
) -> Vec<lock::LockedImage> {
    let outcomes: Vec<_> = stream::iter(collect_images(input, charts))
        .map(|wanted| async {
            let outcome = resolve_image(world, &wanted, pins).await;
            (wanted, outcome)
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    let mut images = Vec::new();
    for (wanted, outcome) in outcomes {
        match outcome {
            Ok(image) => {
                report_missing_platforms(world, &wanted, &image);
                images.push(lock::LockedImage { seen: wanted.seen, ..image });
            }
            // Something that only looks like an image reference, and that no registry has, is most
            // likely not one.
            Err(cause @ remote::Error::NotFound { .. })
                if wanted.confidence < Confidence::Certain =>
            {
                let seen = wanted.seen.first();
                let place = seen.and_then(|seen| seen.field.clone().or(seen.object.clone()));
                let place = place.unwrap_or_default();
                world.progress.add_note(&format!(
                    "{cause}; it is left out, since it was only found at {place} and no pod uses it"
                ));
            }
            Err(cause) => {
                let by = wanted.seen.first().map(|seen| seen.by.as_str()).unwrap_or_default();
                let thing = match &wanted.seen.first().and_then(|seen| seen.template.clone()) {
                    Some(template) => format!("{} (named by {by}, {template})", wanted.reference),
                    None => wanted.reference.to_string(),
                };
                problems.push(ResolveProblem { thing, cause });
            }
        }
    }
    images
}

/// The images of the input and of the charts, each reference once. For an image in both, the input
/// decides on platforms and source.
fn collect_images(input: &Input, charts: &[ResolvedChart]) -> Vec<RequestedImage> {
    // Sorted by reference, so that notes and problems come in the same order each time.
    let mut all: BTreeMap<Reference, RequestedImage> = BTreeMap::new();
    for image in &input.images {
        let input::InputImage { reference, platforms, attached, from } = image.clone();
        // An image may lack some of the platforms of the whole input, but none that are written
        // with the image itself.
        let (platforms, want) = match platforms.is_empty() {
            true => (input.platforms.clone(), PlatformRequirement::Any),
            false => (platforms, PlatformRequirement::All),
        };
        let seen = vec![ImageMention {
            by: "gantry.yaml".to_owned(),
            template: None,
            object: None,
            field: None,
            values: vec![],
        }];
        let confidence = Confidence::Certain;
        let wanted = RequestedImage {
            reference: reference.clone(),
            platforms,
            want,
            attached: attached.unwrap_or(input.attached),
            from,
            seen,
            confidence,
        };
        all.insert(reference, wanted);
    }
    for named in charts.iter().flat_map(|chart| &chart.images) {
        let entry = all.entry(named.reference.clone()).or_insert_with(|| RequestedImage {
            reference: named.reference.clone(),
            platforms: input.platforms.clone(),
            want: PlatformRequirement::Any,
            attached: input.attached,
            from: ImageSource::Registry,
            seen: Vec::new(),
            confidence: named.confidence,
        });
        entry.confidence = entry.confidence.max(named.confidence);
        entry.seen.push(named.seen.clone());
    }
    all.into_values().collect()
}

/// Resolves one image: by its pin, in its registry, or from a local source.
async fn resolve_image(
    world: &ResolveContext,
    wanted: &RequestedImage,
    pins: &LockPins<'_>,
) -> remote::Result<lock::LockedImage> {
    let RequestedImage { reference, platforms, .. } = wanted;
    let local = match &wanted.from {
        ImageSource::Registry => {
            if let Some(pinned) = pins.pinned_image(reference, platforms, wanted.attached) {
                return Ok(pinned.clone());
            }
            let registry = RegistryClient::new(&world.client, &world.mirrors, reference.registry());
            let query = ImageQuery {
                reference,
                platforms,
                requirement: wanted.want,
                attached: wanted.attached,
            };
            return oci::inspect_image(&registry, &world.store, query).await;
        }
        local => local.clone(),
    };
    let (image, from) = import_local_image(world, wanted, local).await?;
    let descriptor = &image.root.descriptor;
    Ok(lock::LockedImage {
        reference: reference.clone(),
        digest: descriptor.digest,
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        platforms: platforms.clone(),
        from: Some(from),
        indexes: image.indexes,
        manifests: image.manifests,
        attached: Vec::new(),
        attached_content: AttachedContent::Carried,
        seen: Vec::new(),
    })
}

/// Copies an image that is on this machine into the store.
async fn import_local_image(
    world: &ResolveContext,
    wanted: &RequestedImage,
    from: ImageSource,
) -> remote::Result<(remote::local::ImportedImage, lock::ImageOrigin)> {
    let (reference, platforms) = (wanted.reference.clone(), wanted.platforms.clone());
    let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
    match from {
        ImageSource::Archive(path) | ImageSource::Layout(path) if wanted.is_layout() => {
            let from = lock::ImageOrigin::Layout(path.display().to_string());
            let path = world.resolve_path(&path);
            let image = run_blocking(move || {
                remote::local::import_image_from_layout(
                    &path, &reference, &platforms, &store, &*progress,
                )
            })
            .await?;
            Ok((image, from))
        }
        ImageSource::Archive(path) | ImageSource::Layout(path) => {
            let from = lock::ImageOrigin::Archive(path.display().to_string());
            let path = world.resolve_path(&path);
            let image = run_blocking(move || {
                remote::local::import_image_from_archive(
                    &path, &reference, &platforms, &store, &*progress,
                )
            })
            .await?;
            Ok((image, from))
        }
        ImageSource::Docker(socket) => {
            let from = lock::ImageOrigin::Docker(socket.display().to_string());
            let image = remote::local::import_image_from_engine(
                &world.resolve_path(&socket),
                &reference,
                &platforms,
                &store,
                progress,
            )
            .await?;
            Ok((image, from))
        }
        ImageSource::Gantry(paths) => {
            let shown = paths.iter().map(|path| path.display().to_string()).collect();
            let binaries: Vec<_> = paths.iter().map(|path| world.resolve_path(path)).collect();
            let image = run_blocking(move || {
                let binaries = GantryBinaries::open(&binaries)?;
                binaries.check_platforms(&platforms)?;
                binaries.build_image(&reference, &store, &*progress)
            })
            .await?;
            Ok((image, lock::ImageOrigin::Gantry(shown)))
        }
        ImageSource::Registry => Err(remote::Error::NotFound {
            what: reference.to_string(),
            hint: "it has no local source".into(),
        }),
    }
}

impl RequestedImage {
    fn is_layout(&self) -> bool {
        matches!(self.from, ImageSource::Layout(_))
    }
}

/// Notes which of the wanted platforms the image does not have.
fn report_missing_platforms(
    world: &ResolveContext,
    wanted: &RequestedImage,
    image: &lock::LockedImage,
) {
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
        world.progress.add_note(&format!(
            "{reference} does not exist for {missing}; its other platforms are carried"
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;
    use crate::charts::ChartImage;

    fn make_chart(images: &[(&str, Confidence)]) -> ResolvedChart {
        let digest = types::Digest::Sha256([1; 32]);
        let manifest = lock::LockedManifest {
            digest,
            size: 1,
            media_type: String::new(),
            platform: None,
            config: None,
            layers: vec![],
            layer_urls: std::collections::BTreeMap::new(),
        };
        let image = |(reference, confidence): &(&str, Confidence)| ChartImage {
            reference: reference.parse().unwrap(),
            seen: ImageMention {
                by: "shop".into(),
                template: None,
                object: None,
                field: None,
                values: vec![],
            },
            confidence: *confidence,
        };
        ResolvedChart {
            locked: lock::LockedChart {
                chart: "./shop".into(),
                name: None,
                requested: None,
                version: "1.0.0".into(),
                release: "shop".into(),
                namespace: None,
                from: None,
                reference: "charts.gantry/shop:1.0.0".parse().unwrap(),
                manifest,
            },
            images: images.iter().map(image).collect(),
        }
    }

    fn make_input(images: &str) -> Input {
        let text = format!(
            "version: 1\nname: site\nplatforms: [linux/amd64, linux/arm64]\nimages: {images}\n"
        );
        Input::parse("gantry.yaml", &text).unwrap()
    }

    #[test]
    fn an_image_of_several_charts_is_looked_up_once_with_all_its_mentions() {
        let charts = [
            make_chart(&[("nginx:1", Confidence::Likely), ("a.site/x:1", Confidence::Likely)]),
            make_chart(&[("docker.io/library/nginx:1", Confidence::Certain)]),
        ];
        let images = collect_images(&make_input("[]"), &charts);
        let names: Vec<String> = images.iter().map(|image| image.reference.to_string()).collect();
        assert_eq!(names, ["a.site/x:1", "docker.io/library/nginx:1"]);
        assert_eq!((images[1].seen.len(), images[1].confidence), (2, Confidence::Certain));
        assert_eq!(images[0].platforms.len(), 2);
    }

    #[test]
    fn the_input_decides_on_source_and_platforms_of_an_image_that_a_chart_names_too() {
        let input = make_input(
            r#"[{image: "nginx:1", archive: own.tar, platforms: [linux/arm64]}, "busybox:1"]"#,
        );
        let images = collect_images(&input, &[make_chart(&[("nginx:1", Confidence::Likely)])]);
        let nginx = &images[1];
        assert_eq!(nginx.from, ImageSource::Archive(PathBuf::from("own.tar")));
        assert_eq!(
            nginx.platforms.iter().map(Platform::to_string).collect::<Vec<_>>(),
            ["linux/arm64"]
        );
        let by: Vec<&str> = nginx.seen.iter().map(|seen| seen.by.as_str()).collect();
        assert_eq!((by, nginx.confidence), (vec!["gantry.yaml", "shop"], Confidence::Certain));
        // Platforms that are written with the image are all demanded, those of the whole input are not.
        assert!(matches!(nginx.want, PlatformRequirement::All));
        assert!(matches!(images[0].want, PlatformRequirement::Any));
    }
}
