//! Imports the images that come from archives and OCI layouts on this machine. Each archive is opened
//! once, whatever number of its images the input asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use remote::local::LocalImages;
use remote::name_pattern::NamePattern;
use store::Store;
use store::progress::Progress;
use types::input::{ArchiveSource, AttachedContent, Input};
use types::lock::{self, ImageMention};
use types::{Platform, Reference};

use crate::ResolveProblem;
use crate::context::{ResolveContext, run_blocking};

/// How many archives are read at once: each may need room for its unpacked content beside the store.
const ARCHIVES: usize = 2;

/// What the input asks of one archive.
#[derive(Default)]
struct ArchiveRequest {
    /// Images by name, with their platforms.
    named: Vec<(Reference, Vec<Platform>)>,
    /// Names and globs (all images where there is none), with the platforms.
    selections: Vec<(Vec<String>, Vec<Platform>)>,
}

/// An archive that is being read.
struct ArchiveImport {
    source: ArchiveSource,
    /// Its path, from the folder of the input.
    path: PathBuf,
    store: Store,
    progress: Arc<dyn Progress>,
}

/// The images that came from archives and layouts.
#[derive(Default)]
pub(crate) struct ArchiveImages {
    pub(crate) images: Vec<lock::LockedImage>,
    /// Whether some archive could not be read, so that it is not known which images are in it.
    pub(crate) has_unread_archives: bool,
}

/// Imports all images of the input that are in archives and layouts.
pub(crate) async fn import_archives(
    world: &ResolveContext,
    input: &Input,
    problems: &mut Vec<ResolveProblem>,
) -> ArchiveImages {
    let outcomes: Vec<_> = stream::iter(collect_requests(input))
        .map(|(source, request)| {
            let import = ArchiveImport {
                path: world.resolve_path(source.path()),
                source,
                store: world.store.clone(),
                progress: Arc::clone(&world.progress),
            };
            run_blocking(move || import.import_images(&request))
        })
        .buffered(ARCHIVES)
        .collect()
        .await;
    let mut all = ArchiveImages::default();
    for outcome in outcomes {
        match outcome {
            Ok((images, own_problems)) => {
                all.images.extend(images);
                problems.extend(own_problems);
            }
            Err(problem) => {
                all.has_unread_archives = true;
                problems.push(problem);
            }
        }
    }
    all
}

/// What the input asks of each archive.
fn collect_requests(input: &Input) -> BTreeMap<ArchiveSource, ArchiveRequest> {
    let platforms = |own: &[Platform]| match own.is_empty() {
        true => input.platforms.clone(),
        false => own.to_vec(),
    };
    let mut requests: BTreeMap<ArchiveSource, ArchiveRequest> = BTreeMap::new();
    for image in &input.images {
        let Some(source) = image.from.archive() else { continue };
        let wanted = (image.reference.clone(), platforms(&image.platforms));
        requests.entry(source).or_default().named.push(wanted);
    }
    for archive in &input.archives {
        let wanted = (archive.images.clone(), platforms(&archive.platforms));
        requests.entry(archive.from.clone()).or_default().selections.push(wanted);
    }
    requests
}

impl ArchiveImport {
    /// Imports what is asked for. The error is for all of it: the archive cannot be read, or what is to
    /// be chosen is not in it.
    fn import_images(
        &self,
        request: &ArchiveRequest,
    ) -> Result<(Vec<lock::LockedImage>, Vec<ResolveProblem>), ResolveProblem> {
        let unread =
            |cause| ResolveProblem { thing: self.source.path().display().to_string(), cause };
        let opened = match &self.source {
            ArchiveSource::Archive(_) => LocalImages::open_archive(&self.path, &self.store),
            ArchiveSource::Layout(_) => LocalImages::open_layout(&self.path),
        };
        let opened = opened.map_err(unread)?;
        let wanted = select_images(&opened, request).map_err(unread)?;
        let (mut images, mut problems) = (Vec::new(), Vec::new());
        for (reference, platforms) in wanted {
            let imported =
                opened.import_image(&reference, &platforms, &self.store, &*self.progress);
            match imported {
                Ok(image) => {
                    let origin = self.describe_origin();
                    images.push(build_locked_image(image, origin, platforms));
                }
                Err(cause) => problems.push(ResolveProblem { thing: reference.to_string(), cause }),
            }
        }
        Ok((images, problems))
    }

    fn describe_origin(&self) -> lock::ImageOrigin {
        match &self.source {
            ArchiveSource::Archive(path) => lock::ImageOrigin::Archive(path.display().to_string()),
            ArchiveSource::Layout(path) => lock::ImageOrigin::Layout(path.display().to_string()),
        }
    }
}

/// The images to import, each once: those that are written by name, and those that are chosen in the
/// archive.
fn select_images(
    opened: &LocalImages,
    request: &ArchiveRequest,
) -> remote::Result<Vec<(Reference, Vec<Platform>)>> {
    let named: BTreeMap<_, _> = request.named.iter().cloned().collect();
    let mut chosen: BTreeMap<Reference, Vec<Platform>> = BTreeMap::new();
    for (patterns, platforms) in &request.selections {
        let patterns: Vec<NamePattern> = patterns
            .iter()
            .map(|pattern| NamePattern::parse(pattern))
            .collect::<remote::Result<_>>()?;
        for reference in opened.select_names(&patterns)? {
            let all = chosen.entry(reference).or_default();
            let more = platforms.iter().filter(|platform| !all.contains(platform)).cloned();
            let more: Vec<Platform> = more.collect();
            all.extend(more);
        }
    }
    // What is written with an image itself counts, not what is written for all of its archive.
    chosen.extend(named);
    Ok(chosen.into_iter().collect())
}

/// An image of this machine as a lock has it: named by `gantry.yaml`, and with nothing attached, since
/// nothing is looked up for it.
pub(crate) fn build_locked_image(
    image: remote::local::ImportedImage,
    origin: lock::ImageOrigin,
    platforms: Vec<Platform>,
) -> lock::LockedImage {
    let descriptor = image.root.descriptor;
    lock::LockedImage {
        reference: image.root.name,
        digest: descriptor.digest,
        media_type: descriptor.media_type,
        size: descriptor.size,
        platforms,
        from: Some(origin),
        indexes: image.indexes,
        manifests: image.manifests,
        attached: Vec::new(),
        attached_content: AttachedContent::Carried,
        seen: vec![ImageMention::of_input()],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn all_that_is_asked_of_one_archive_is_one_request() {
        let text = "version: 1\nname: a\nimages:\n- {image: \"own:1\", archive: a.tar, platforms: \
            [linux/arm64]}\n- {archive: a.tar}\n- {archive: b.tar, images: [x]}\n- nginx:1\n\
            - {layout: a.tar}\n";
        let requests = collect_requests(&Input::parse("f", text).unwrap());
        let sizes: Vec<_> = requests
            .iter()
            .map(|(source, request)| {
                let path = source.path().display().to_string();
                (path, request.named.len(), request.selections.len())
            })
            .collect();
        let expected = [("a.tar", 1, 1), ("b.tar", 0, 1), ("a.tar", 0, 1)];
        assert_eq!(sizes, expected.map(|(path, named, all)| (path.to_owned(), named, all)));
        let own = &requests[&ArchiveSource::Archive("a.tar".into())];
        assert_eq!(own.named[0].1[0].to_string(), "linux/arm64");
        assert_eq!(own.selections[0].1, [Platform::linux_amd64()]);
    }
}
