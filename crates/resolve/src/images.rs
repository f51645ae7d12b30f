//! Resolves images: those of the input and those that releases name, each looked up once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use remote::oci::{self, ImageQuery, PlatformRequirement, RegistryClient};
use remote::own_image::GantryBinaries;
use types::input::{self, AttachedContent, ImageSource, Input};
use types::lock::{self, ImageMention};
use types::{Platform, Reference};

use crate::ResolveProblem;
use crate::archives::{self, ArchiveImages, build_locked_image};
use crate::context::{LOOKUPS, ResolveContext, run_blocking};
use crate::pins::LockPins;
use crate::possible_images::{LeftOutCause, LeftOutImage, MissingImagePolicy};
use crate::release_images::ReleaseImages;

/// An image to look up.
struct RequestedImage {
    reference: Reference,
    platforms: Vec<Platform>,
    want: PlatformRequirement,
    attached: AttachedContent,
    from: ImageSource,
    seen: Vec<ImageMention>,
    /// The strictest policy of all places that name it.
    if_absent: MissingImagePolicy,
}

/// The images of an input.
#[derive(Default)]
pub(crate) struct ResolvedImages {
    pub(crate) images: Vec<lock::LockedImage>,
    /// Images that releases name, but that no registry has.
    pub(crate) left_out: Vec<LeftOutImage>,
}

/// Resolves all images of the input and of its releases.
pub(crate) async fn resolve_images(
    world: &ResolveContext,
    input: &Input,
    pins: &LockPins<'_>,
    releases: &[&ReleaseImages],
    problems: &mut Vec<ResolveProblem>,
) -> ResolvedImages {
    let ArchiveImages { images: local, has_unread_archives } =
        archives::import_archives(world, input, problems).await;
    let mut resolved = ResolvedImages::default();
    // It is not known which images come from there: registries would be asked for them in vain.
    if has_unread_archives {
        return resolved;
    }
    let outcomes: Vec<_> = stream::iter(collect_images(input, releases, &local))
        .map(|wanted| async {
            let outcome = resolve_image(world, &wanted, pins).await;
            (wanted, outcome)
        })
        .buffered(LOOKUPS)
        .collect()
        .await;
    for (wanted, outcome) in outcomes {
        match outcome {
            Ok(image) => {
                resolved.images.push(lock::LockedImage { seen: wanted.seen, ..image });
            }
            Err(cause) if wanted.is_left_out_for(&cause) => {
                world.progress.add_note(&format!(
                    "{cause}; it is left out, since {}",
                    wanted.describe_guess()
                ));
                resolved.left_out.extend(wanted.seen.iter().map(|seen| LeftOutImage {
                    release: seen.by.clone(),
                    reference: wanted.reference.clone(),
                    location: describe_place(seen),
                    cause: LeftOutCause::Absent,
                    reason: cause.to_string(),
                }));
            }
            Err(cause) => problems.push(ResolveProblem { thing: wanted.describe_request(), cause }),
        }
    }
    resolved.images.extend(add_mentions(local, releases));
    for image in &resolved.images {
        report_missing_platforms(world, image);
    }
    resolved
}

/// Adds to images of archives the places where releases name them.
fn add_mentions(
    mut local: Vec<lock::LockedImage>,
    releases: &[&ReleaseImages],
) -> Vec<lock::LockedImage> {
    let mut mentions: HashMap<&Reference, Vec<&ImageMention>> = HashMap::new();
    for named in releases.iter().flat_map(|release| &release.carried) {
        mentions.entry(&named.reference).or_default().push(&named.seen);
    }
    for image in &mut local {
        let named = mentions.get(&image.reference).into_iter().flatten();
        image.seen.extend(named.map(|seen| (*seen).clone()));
    }
    local
}

/// The images of the input and of the releases that are not in an archive, each reference once. For an
/// image in both, the input decides on platforms and source.
fn collect_images(
    input: &Input,
    releases: &[&ReleaseImages],
    local: &[lock::LockedImage],
) -> Vec<RequestedImage> {
    // Those that are to be in an archive are not looked up either: that was reported there.
    let in_archives: HashSet<&Reference> = input
        .images
        .iter()
        .filter(|image| image.from.archive().is_some())
        .map(|image| &image.reference)
        .chain(local.iter().map(|image| &image.reference))
        .collect();
    // Sorted by reference, so that notes and problems come in the same order each time.
    let mut all: BTreeMap<Reference, RequestedImage> = BTreeMap::new();
    for image in input.images.iter().filter(|image| image.from.archive().is_none()) {
        let input::InputImage { reference, platforms, attached, from } = image.clone();
        // An image may lack some of the platforms of the whole input, but none that are written
        // with the image itself.
        let (platforms, want) = match platforms.is_empty() {
            true => (input.platforms.clone(), PlatformRequirement::Any),
            false => (platforms, PlatformRequirement::All),
        };
        let wanted = RequestedImage {
            reference: reference.clone(),
            platforms,
            want,
            attached: attached.unwrap_or(input.attached),
            from,
            seen: vec![ImageMention::of_input()],
            if_absent: MissingImagePolicy::Fail,
        };
        all.insert(reference, wanted);
    }
    for named in releases.iter().flat_map(|release| &release.carried) {
        if in_archives.contains(&named.reference) && !all.contains_key(&named.reference) {
            continue;
        }
        let entry = all.entry(named.reference.clone()).or_insert_with(|| RequestedImage {
            reference: named.reference.clone(),
            platforms: input.platforms.clone(),
            want: PlatformRequirement::Any,
            attached: input.attached,
            from: ImageSource::Registry,
            seen: Vec::new(),
            if_absent: named.if_absent,
        });
        entry.if_absent = entry.if_absent.max(named.if_absent);
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
    let (image, origin) = match &wanted.from {
        ImageSource::Docker(socket) => {
            let origin = lock::ImageOrigin::Docker(socket.display().to_string());
            let image = remote::local::import_image_from_engine(
                &world.resolve_path(socket),
                reference,
                platforms,
                &world.store,
                Arc::clone(&world.progress),
            )
            .await?;
            (image, origin)
        }
        ImageSource::Gantry(paths) => {
            let shown = paths.iter().map(|path| path.display().to_string()).collect();
            let binaries: Vec<_> = paths.iter().map(|path| world.resolve_path(path)).collect();
            let (reference, platforms) = (reference.clone(), platforms.clone());
            let (store, progress) = (world.store.clone(), Arc::clone(&world.progress));
            let image = run_blocking(move || {
                let binaries = GantryBinaries::open(&binaries)?;
                binaries.check_platforms(&platforms)?;
                binaries.build_image(&reference, &store, &*progress)
            })
            .await?;
            (image, lock::ImageOrigin::Gantry(shown))
        }
        // What archives have was imported before; any other image is in its registry.
        ImageSource::Registry | ImageSource::Archive(_) | ImageSource::Layout(_) => {
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
    };
    Ok(build_locked_image(image, origin, platforms.clone()))
}

impl RequestedImage {
    /// Whether nothing but a guess names it.
    fn is_only_possible(&self) -> bool {
        self.seen.iter().all(|seen| seen.possible.is_some())
    }

    /// Whether it is left out for this reason instead of failing the lock: something that only looks
    /// like an image reference, and that no registry has, is most likely not one.
    fn is_left_out_for(&self, cause: &remote::Error) -> bool {
        self.if_absent == MissingImagePolicy::LeaveOut
            && match cause {
                remote::Error::NotFound { .. } => true,
                remote::Error::NoPlatform { .. } => self.is_only_possible(),
                _ => false,
            }
    }

    /// Why it may be no image, or one that nothing pulls.
    fn describe_guess(&self) -> String {
        let Some(seen) = self.seen.first() else { return String::new() };
        match &seen.possible {
            Some(why) => format!("it is only possible in the release {}: {why}", seen.by),
            None => {
                let place = seen.field.clone().or(seen.object.clone()).unwrap_or_default();
                format!("it was only found at {place} and no pod uses it")
            }
        }
    }

    /// The image in a message: where it is named, and how to leave it out where that is possible.
    fn describe_request(&self) -> String {
        let Self { reference, seen, .. } = self;
        let Some(first) = seen.first() else { return reference.to_string() };
        let by = &first.by;
        if self.is_only_possible() {
            let next = match self.if_absent {
                MissingImagePolicy::Fail => "remove it from `include:` to leave it out",
                MissingImagePolicy::LeaveOut => {
                    "list under `include:` of the chart only those that you want, to leave it out"
                }
            };
            return format!("{reference} (only possible in the release {by}; {next})");
        }
        match &first.template {
            Some(template) => format!("{reference} (named by {by}, {template})"),
            None => reference.to_string(),
        }
    }
}

/// The place of a mention, in one text.
fn describe_place(seen: &ImageMention) -> String {
    let parts = [&seen.template, &seen.object, &seen.field];
    parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Notes which of the wanted platforms the image does not have.
fn report_missing_platforms(world: &ResolveContext, image: &lock::LockedImage) {
    let have: Vec<&Platform> =
        image.manifests.iter().filter_map(|manifest| manifest.platform.as_ref()).collect();
    // An image without an index names no platforms: nothing to compare.
    if have.is_empty() {
        return;
    }
    let missing: Vec<String> = image
        .platforms
        .iter()
        .filter(|wanted| !have.iter().any(|have| have.satisfies(wanted)))
        .map(Platform::to_string)
        .collect();
    if !missing.is_empty() {
        let (reference, missing) = (&image.reference, missing.join(", "));
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
    use crate::release_images::NamedImage;

    fn make_release(images: &[(&str, MissingImagePolicy)]) -> ReleaseImages {
        let image = |(reference, if_absent): &(&str, MissingImagePolicy)| NamedImage {
            reference: reference.parse().unwrap(),
            seen: ImageMention::of_release("shop"),
            if_absent: *if_absent,
        };
        ReleaseImages { carried: images.iter().map(image).collect(), left_out: vec![] }
    }

    fn make_input(images: &str) -> Input {
        let text = format!(
            "version: 1\nname: site\nplatforms: [linux/amd64, linux/arm64]\nimages: {images}\n"
        );
        Input::parse("gantry.yaml", &text).unwrap()
    }

    #[test]
    fn an_image_of_several_releases_is_looked_up_once_with_all_its_mentions() {
        let guess = MissingImagePolicy::LeaveOut;
        let first = make_release(&[("nginx:1", guess), ("a.site/x:1", guess)]);
        let second = make_release(&[("docker.io/library/nginx:1", MissingImagePolicy::Fail)]);
        let images = collect_images(&make_input("[]"), &[&first, &second], &[]);
        let names: Vec<String> = images.iter().map(|image| image.reference.to_string()).collect();
        assert_eq!(names, ["a.site/x:1", "docker.io/library/nginx:1"]);
        assert_eq!((images[1].seen.len(), images[1].if_absent), (2, MissingImagePolicy::Fail));
        assert_eq!(images[0].platforms.len(), 2);
    }

    #[test]
    fn the_input_decides_on_source_and_platforms_of_an_image_that_a_release_names_too() {
        let input = make_input(
            r#"[{image: "nginx:1", docker: /a.sock, platforms: [linux/arm64]}, "busybox:1", {image: "own:1", archive: own.tar}]"#,
        );
        let guess = MissingImagePolicy::LeaveOut;
        let release = make_release(&[("nginx:1", guess), ("own:1", guess), ("saved:1", guess)]);
        let local = lock::LockedImage {
            reference: "saved:1".parse().unwrap(),
            digest: types::Digest::Sha256([2; 32]),
            media_type: String::new(),
            size: 1,
            platforms: vec![],
            from: Some(lock::ImageOrigin::Archive("all.tar".into())),
            indexes: vec![],
            manifests: vec![],
            attached: vec![],
            attached_content: AttachedContent::Carried,
            seen: vec![ImageMention::of_input()],
        };
        let images = collect_images(&input, &[&release], std::slice::from_ref(&local));
        // What archives have is not looked up, whether it is listed or comes with all of an archive.
        assert_eq!(images.len(), 2);
        let nginx = &images[1];
        assert_eq!(nginx.from, ImageSource::Docker(PathBuf::from("/a.sock")));
        assert_eq!(
            nginx.platforms.iter().map(Platform::to_string).collect::<Vec<_>>(),
            ["linux/arm64"]
        );
        let named_by = |seen: &[ImageMention]| -> Vec<String> {
            seen.iter().map(|seen| seen.by.clone()).collect()
        };
        assert_eq!(named_by(&nginx.seen), ["gantry.yaml", "shop"]);
        assert_eq!(nginx.if_absent, MissingImagePolicy::Fail);
        // Platforms that are written with the image are all demanded, those of the whole input are not.
        assert!(matches!(nginx.want, PlatformRequirement::All));
        assert!(matches!(images[0].want, PlatformRequirement::Any));
        let local = add_mentions(vec![local], &[&release]);
        assert_eq!(named_by(&local[0].seen), ["gantry.yaml", "shop"]);
    }
}
