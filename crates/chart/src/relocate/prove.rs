//! Proves an overlay by comparing two renders, one without it and one with it. It holds if each
//! image has its name at the site, if no other leaf changed, and if no text still names an original
//! image. The last part looks through all texts on its own, so that it also catches images that
//! were missed when the images to move were collected.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use types::Reference;

use super::compiled_in::CompiledInImage;
use super::difference::{LeafDifference, find_differences};
use super::expected_changes::{ExpectedChanges, MovedTexts, is_explained};
use super::image_move::{ImageMove, IndexedRender};
use super::locked_images::UnlockedImage;
use crate::find::{BrokenImageField, ManifestLocation, text};
use crate::path::{DocumentPath, PathStep};

/// What a render with the overlay shows; serialized into the reports of `gantry relocate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RelocationProof {
    /// The images that have their name at the site now.
    pub moved: Vec<MovedImage>,
    /// The images that still have their original name.
    pub stayed: Vec<UnmovedImage>,
    /// Everything else that changed, each unexpected.
    pub changes: Vec<UnexpectedChange>,
    /// Texts that still point outside and are none of the `stayed` images.
    pub foreign: Vec<ForeignReference>,
    /// Image fields whose text is not an image reference, in both renders: the chart or its values
    /// are wrong, and nothing can be proven of them.
    pub broken: Vec<BrokenImageField>,
    /// The images that operators will pull from outside and that no manifest names.
    pub compiled_in: Vec<CompiledInImage>,
    /// The images that operators may pull, depending on what is done in the cluster. They do not
    /// count for the verdict.
    pub possible: Vec<CompiledInImage>,
    /// The images that the lock does not have, so the site will not have them either.
    pub not_locked: Vec<UnlockedImage>,
}

/// An image that has its name at the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MovedImage {
    /// Its original name.
    pub from: Reference,
    /// Its name at the site.
    pub to: Reference,
    /// Where the manifests name it.
    pub place: ManifestLocation,
}

/// An image that still has its original name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnmovedImage {
    /// Its original name.
    pub from: Reference,
    /// The name that it should have at the site.
    pub to: Reference,
    /// Where the manifests name it.
    pub place: ManifestLocation,
}

/// A leaf that changed and should not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnexpectedChange {
    /// Where it is.
    pub place: ManifestLocation,
    /// Its text without the overlay; absent if the leaf is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its text with the overlay; absent if the leaf is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A text that points outside the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignReference {
    /// Where it is.
    pub place: ManifestLocation,
    /// The text that points outside.
    pub text: String,
}

/// What a proof says, in one word. The order is from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofVerdict {
    /// Every image is moved and nothing else changed.
    Proven,
    /// Some images could not be moved; everything else is proven.
    Leftovers,
    /// Something else changed, a text points outside, or an image is not in the lock.
    Refuted,
}

impl ProofVerdict {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Leftovers => "leftovers",
            Self::Refuted => "refuted",
        }
    }
}

impl RelocationProof {
    /// The proof in one word.
    pub fn verdict(&self) -> ProofVerdict {
        let is_refuted =
            !self.changes.is_empty() || !self.foreign.is_empty() || !self.not_locked.is_empty();
        let is_all =
            self.stayed.is_empty() && self.compiled_in.is_empty() && self.broken.is_empty();
        match (is_refuted, is_all) {
            (true, _) => ProofVerdict::Refuted,
            (false, true) => ProofVerdict::Proven,
            (false, false) => ProofVerdict::Leftovers,
        }
    }
}

/// The leaves (document number and path) that differ between two renders of the same values.
pub(crate) fn find_volatile_leaves(
    one: &IndexedRender,
    other: &IndexedRender,
) -> BTreeSet<(usize, DocumentPath)> {
    let mut found = BTreeSet::new();
    for (index, document) in one.manifests.documents.iter().enumerate() {
        let Some(same) = other.find_same_document(one, index) else { continue };
        let after = &other.manifests.documents[same];
        // Most documents are the same text; only the others are worth a walk.
        if document.text != after.text {
            let all = find_differences(&document.value, &after.value);
            found.extend(all.into_iter().map(|difference| (index, difference.path)));
        }
    }
    found
}

/// Proves `after`, a render with the overlay, against `before`, one without it.
pub(crate) fn prove_relocation(
    before: &IndexedRender,
    after: &IndexedRender,
    sites: &[ImageMove],
    allowed: &ExpectedChanges,
    is_home: &dyn Fn(&Reference) -> bool,
) -> RelocationProof {
    let mut proof = RelocationProof::default();
    let mut moved = MovedTexts::new();
    // Texts that are known to name an original image: they are reported once, as `stayed`.
    let mut stays: BTreeSet<(usize, DocumentPath)> = BTreeSet::new();
    for site in sites {
        let (from, to) = (site.found.reference.clone(), site.target.clone());
        let place = site.found.place.clone();
        if site.name_text_in(before, after).as_deref() == Some(&site.wanted) {
            for path in site.name_paths() {
                moved.entry((place.document, path)).or_default().push(site);
            }
            proof.moved.push(MovedImage { from, to, place });
        } else {
            stays.extend(site.name_paths().map(|path| (place.document, path.outer())));
            proof.stayed.push(UnmovedImage { from, to, place });
        }
    }
    for (index, document) in before.manifests.documents.iter().enumerate() {
        let place = |path: DocumentPath| ManifestLocation {
            template: document.template.clone(),
            document: index,
            kind: document.kind().to_owned(),
            name: document.name().to_owned(),
            path,
        };
        let Some(same) = after.find_same_document(before, index) else {
            let before = Some("the whole document".to_owned());
            proof.changes.push(UnexpectedChange {
                place: place(DocumentPath::default()),
                before,
                after: None,
            });
            continue;
        };
        let same = &after.manifests.documents[same];
        if same.text == document.text {
            continue;
        }
        for difference in find_differences(&document.value, &same.value) {
            if !is_explained(&difference, index, &moved, allowed) {
                let LeafDifference { path, before, after } = difference;
                proof.changes.push(UnexpectedChange { place: place(path), before, after });
            }
        }
    }
    // Documents that only the second render has, which the loop above cannot see.
    add_new_documents(before, after, &mut proof);
    add_foreign_references(before, after, sites, &stays, is_home, &mut proof);
    proof
}

/// Adds the documents that only the render with the overlay has, as changes.
fn add_new_documents(before: &IndexedRender, after: &IndexedRender, proof: &mut RelocationProof) {
    for (index, document) in after.manifests.documents.iter().enumerate() {
        if before.find_same_document(after, index).is_none() {
            let place = ManifestLocation {
                template: document.template.clone(),
                document: index,
                kind: document.kind().to_owned(),
                name: document.name().to_owned(),
                path: DocumentPath::default(),
            };
            let after = Some("the whole document".to_owned());
            proof.changes.push(UnexpectedChange { place, before: None, after });
        }
    }
}

/// Adds what still points outside: every image found that is not the site's, and every text that
/// still has the name of an image that should have moved.
fn add_foreign_references(
    before: &IndexedRender,
    after: &IndexedRender,
    sites: &[ImageMove],
    stays: &BTreeSet<(usize, DocumentPath)>,
    is_home: &dyn Fn(&Reference) -> bool,
    proof: &mut RelocationProof,
) {
    let own = |document: usize| before.find_same_document(after, document);
    let is_known = |document: usize, path: &DocumentPath| {
        own(document).is_some_and(|document| stays.contains(&(document, path.outer())))
    };
    // First by the finder, which knows the fields and formats that images are in.
    let findings = after.findings_reusing(before);
    for found in &findings.images {
        let is_known = found.parts.iter().any(|part| is_known(found.place.document, &part.path));
        if !is_home(&found.reference) && !is_known {
            let text = found.reference.to_string();
            proof.foreign.push(ForeignReference { place: found.place.clone(), text });
        }
    }
    for broken in &findings.broken {
        // The same text at the same path in both renders: not the overlay's doing.
        let was_broken = own(broken.place.document).is_some_and(|document| {
            before.findings().broken.iter().any(|was| {
                was.place.document == document
                    && was.place.path == broken.place.path
                    && was.text == broken.text
            })
        });
        if was_broken {
            proof.broken.push(broken.clone());
        } else if !is_known(broken.place.document, &broken.place.path) {
            let (place, text) = (broken.place.clone(), broken.text.clone());
            proof.foreign.push(ForeignReference { place, text });
        }
    }
    // Then by plain text search for the old names, which does not depend on the finder.
    let names: BTreeSet<&str> = sites.iter().filter_map(|site| hosted_name(&site.text)).collect();
    let hosts: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_inclusive('/').next()).collect();
    for (index, document) in after.manifests.documents.iter().enumerate() {
        let mut visit = |path: &DocumentPath, text: &str| {
            // Large charts have hundreds of names and only a few hosts: a cheap test first.
            if !hosts.iter().any(|host| text.contains(host)) {
                return;
            }
            let Some(name) = names.iter().find(|name| mentions_name(text, name)) else { return };
            if !is_known(index, path) {
                let place = ManifestLocation {
                    template: document.template.clone(),
                    document: index,
                    kind: document.kind().to_owned(),
                    name: document.name().to_owned(),
                    path: path.clone(),
                };
                proof.foreign.push(ForeignReference { place, text: (*name).to_owned() });
            }
        };
        // Schemas of custom resources name images in descriptions and examples; none is pulled.
        if document.kind() == "CustomResourceDefinition" {
            continue;
        }
        let is_secret = document.kind() == "Secret";
        visit_texts(&document.value, &DocumentPath::default(), is_secret, &mut visit);
    }
}

/// Calls `visit` with every text of a document; texts below `data` of a Secret are decoded.
fn visit_texts(
    value: &Value,
    path: &DocumentPath,
    is_secret: bool,
    visit: &mut impl FnMut(&DocumentPath, &str),
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                visit_texts(value, &path.key(key), is_secret, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit_texts(item, &path.index(index), is_secret, visit);
            }
        }
        Value::String(text) => {
            let is_data = matches!(path.steps(), [PathStep::Key(data), _] if data == "data");
            match text::decode_base64(text).filter(|_| is_secret && is_data) {
                Some(decoded) => visit(path, &decoded),
                None => visit(path, text),
            }
        }
        _ => {}
    }
}

/// The name in a reference without tag and digest, if it starts with a registry's host. `nginx`
/// does not: as a plain word, it may mean anything.
pub(crate) fn hosted_name(text: &str) -> Option<&str> {
    let name = &text[..super::image_move::name_length(text)];
    let (host, _) = name.split_once('/')?;
    host.contains(['.', ':']).then_some(name)
}

/// Whether a text has an image's name as a whole: not as a part of a longer name, and not in a URL.
pub(crate) fn mentions_name(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let behind = text[start + name.len()..].chars().next();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
        !before.is_some_and(is_part)
            && !behind.is_some_and(|c| c.is_ascii_alphanumeric() || "-_/".contains(c))
    })
}
