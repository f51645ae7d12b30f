//! Finds texts that mention an image without being a location to pull it from: the allowed
//! repositories of a policy, a comment in a script of a ConfigMap, a setting with the name but not
//! the tag. A name with the registry's host in front is unambiguous, and left unchanged it would
//! still point outside the site, so the post-renderer moves it as well.

use std::collections::BTreeMap;

use crate::find::{
    Confidence, FoundImage, LocationKind, ManifestLocation, PartRole, ReferencePart,
};
use crate::image_names::{hosted_name, mentions_name};
use crate::manifest::Manifests;
use crate::path::TextEncoding;
use crate::taint::image_move::ImageMove;
use crate::texts::visit_texts_of_images;

/// Names of images with their host (`quay.io/org/app`), each with one location of the image.
type ImageNames<'a> = BTreeMap<&'a str, &'a ImageMove>;

/// Finds the texts that mention the images of `sites` by host and path. Returns one entry for each
/// image and text.
pub(super) fn find_mentions(manifests: &Manifests, sites: &[ImageMove]) -> Vec<ImageMove> {
    let names: ImageNames =
        sites.iter().filter_map(|site| Some((hosted_name(&site.text)?, site))).collect();
    let mut found = Vec::new();
    if names.is_empty() {
        return found;
    }
    let is_wanted = |text: &str| names.keys().any(|name| mentions_name(text, name));
    for (index, document) in manifests.documents.iter().enumerate() {
        // Descriptions in a schema are for readers; nothing acts on them.
        if document.kind() == "CustomResourceDefinition" {
            continue;
        }
        visit_texts_of_images(document, &is_wanted, &mut |path, text| {
            let named = names.iter().filter(|(name, _)| mentions_name(text, name));
            let path = path.inside(TextEncoding::Text);
            let place = ManifestLocation::new(index, document, path);
            found.extend(named.map(|(name, site)| build_mention(name, site, place.clone())));
        });
    }
    found
}

/// The entry for a mention of the image of `site` at a place.
fn build_mention(name: &str, site: &ImageMove, place: ManifestLocation) -> ImageMove {
    let part =
        ReferencePart { path: place.path.clone(), text: name.to_owned(), role: PartRole::Whole };
    let reference = site.found.reference.clone();
    let mut found =
        FoundImage::new(reference, vec![part], place, LocationKind::Text, Confidence::Possible);
    found.note = Some(NOTE.to_owned());
    ImageMove::new(&found, site.target.clone())
}

/// Whether a location is that of a mention.
pub(super) fn is_mention(site: &ImageMove) -> bool {
    site.found.pattern == LocationKind::Text && site.found.note.as_deref() == Some(NOTE)
}

/// The note that marks a mention, and that reports show.
const NOTE: &str = "a text that mentions it";
