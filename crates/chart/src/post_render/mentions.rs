//! Finds texts that mention an image without being a location to pull it from: the allowed
//! repositories of a policy, a comment in a script of a ConfigMap, a setting with the name but not
//! the tag. A name with the registry's host in front is unambiguous, and left unchanged it would
//! still point outside the site, so the post-renderer moves it as well.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::edit::embedded::parse_embedded;
use crate::find::{
    Confidence, FoundImage, LocationKind, ManifestLocation, PartRole, ReferencePart, positions,
};
use crate::image_names::{hosted_name, mentions_name};
use crate::manifest::{ManifestDocument, Manifests};
use crate::path::{DocumentPath, TextEncoding};
use crate::taint::image_move::ImageMove;
use crate::texts::{TextOrigin, decode_secret_data, visit_texts};

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
    for (index, document) in manifests.documents.iter().enumerate() {
        // Descriptions in a schema are for readers; nothing acts on them.
        if document.kind() != "CustomResourceDefinition" {
            let mut walk = MentionSearch { names: &names, document, index, found: &mut found };
            walk.search_value(&document.value, &DocumentPath::default());
        }
    }
    found
}

/// Whether a location is that of a mention.
pub(super) fn is_mention(site: &ImageMove) -> bool {
    site.found.pattern == LocationKind::Text && site.found.note.as_deref() == Some(NOTE)
}

/// The note that marks a mention, and that reports show.
const NOTE: &str = "a text that mentions it";

/// The search through one document.
struct MentionSearch<'a> {
    names: &'a ImageNames<'a>,
    document: &'a ManifestDocument,
    index: usize,
    found: &'a mut Vec<ImageMove>,
}

impl MentionSearch<'_> {
    /// Searches a value and everything in it.
    fn search_value(&mut self, value: &Value, path: &DocumentPath) {
        let document = self.document;
        visit_texts(value, path, &mut |path, text, origin| {
            if origin == TextOrigin::Value && !positions::is_path_without_images(path) {
                match decode_secret_data(document, path, text) {
                    Some(plain) => self.search_text(&plain, &path.inside(TextEncoding::Base64)),
                    None => self.search_text(text, path),
                }
            }
        });
    }

    /// Searches a text and, if it holds a document, that too: the proof compares leaf by leaf, so
    /// each leaf that changes needs an entry of its own.
    fn search_text(&mut self, text: &str, path: &DocumentPath) {
        let mut is_any = false;
        for (name, site) in self.names {
            if mentions_name(text, name) {
                is_any = true;
                self.found.push(self.build_move(name, site, path.inside(TextEncoding::Text)));
            }
        }
        if is_any && let Some((encoding, value)) = parse_embedded(text) {
            self.search_value(&value, &path.inside(encoding));
        }
    }

    /// The entry for a mention of the image of `site` at a path.
    fn build_move(&self, name: &str, site: &ImageMove, path: DocumentPath) -> ImageMove {
        let part =
            ReferencePart { path: path.clone(), text: name.to_owned(), role: PartRole::Whole };
        let place = ManifestLocation::new(self.index, self.document, path);
        let reference = site.found.reference.clone();
        let mut found =
            FoundImage::new(reference, vec![part], place, LocationKind::Text, Confidence::Possible);
        found.note = Some(NOTE.to_owned());
        ImageMove::new(&found, site.target.clone())
    }
}
