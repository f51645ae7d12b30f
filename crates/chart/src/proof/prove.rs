//! Proves an overlay by comparing two renders, one without it and one with it. It holds if each
//! image has its name at the site, if no other leaf changed, and if no text still names an original
//! image. The last part looks through all texts on its own, so that it also catches texts that were
//! missed when the images to move were collected.

use std::collections::{BTreeMap, BTreeSet};

use types::Reference;

use super::differences::{LeafDifference, find_differences};
use super::expected_changes::{ExpectedChanges, MovedTexts, is_explained};
use super::relocation_proof::{
    ForeignReference, MovedImage, RelocationProof, UnexpectedChange, UnmovedImage,
};
use crate::find::ManifestLocation;
use crate::find::registries::find_registries;
use crate::image_names::{hosted_name, may_mention_host, mentions_name};
use crate::path::DocumentPath;
use crate::taint::image_move::ImageMove;
use crate::taint::indexed_render::IndexedRender;
use crate::texts::visit_texts_of_images;

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
        let place = |path| ManifestLocation::new(index, document, path);
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
            if !is_explained(&difference, (index, &document.value), &moved, allowed) {
                let LeafDifference { path, before, after } = difference;
                proof.changes.push(UnexpectedChange { place: place(path), before, after });
            }
        }
    }
    // Documents that only the second render has, which the loop above cannot see.
    add_new_documents(before, after, &mut proof);
    add_foreign_references(before, after, sites, &stays, is_home, &mut proof);
    add_registries(before, after, &mut proof);
    proof
}

/// Adds the registries outside that stand alone in the render with the overlay.
fn add_registries(before: &IndexedRender, after: &IndexedRender, proof: &mut RelocationProof) {
    let findings = after.findings_reusing(before);
    let mut taken = findings.paths_by_document();
    for (index, document) in after.manifests.documents.iter().enumerate() {
        let taken = taken.remove(&index).unwrap_or_default();
        for (path, text) in find_registries(document, &taken) {
            let place = ManifestLocation::new(index, document, path);
            proof.registries.push(ForeignReference { place, text });
        }
    }
}

/// Adds the documents that only the render with the overlay has, as changes.
fn add_new_documents(before: &IndexedRender, after: &IndexedRender, proof: &mut RelocationProof) {
    for (index, document) in after.manifests.documents.iter().enumerate() {
        if before.find_same_document(after, index).is_none() {
            let place = ManifestLocation::new(index, document, DocumentPath::default());
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
    // A text that nothing reaches is left over; it does not refute what was moved.
    let names: BTreeMap<&str, &ImageMove> =
        sites.iter().filter_map(|site| Some((hosted_name(&site.text)?, site))).collect();
    let hosts: BTreeSet<&str> =
        names.keys().filter_map(|name| name.split_inclusive('/').next()).collect();
    // Large charts have thousands of names and only a few hosts: a cheap test first.
    let is_wanted = |text: &str| {
        hosts.iter().any(|host| may_mention_host(text, host))
            && names.keys().any(|name| mentions_name(text, name))
    };
    for (index, document) in after.manifests.documents.iter().enumerate() {
        // Schemas of custom resources name images in descriptions and examples; none is pulled.
        if document.kind() == "CustomResourceDefinition" {
            continue;
        }
        let mut reported: BTreeSet<DocumentPath> = BTreeSet::new();
        visit_texts_of_images(document, &is_wanted, &mut |path, text| {
            let mut named = names.iter().filter(|(name, _)| mentions_name(text, name));
            let Some((_, site)) = named.next() else { return };
            // A text is reported once, however many documents and names there are in it.
            if !is_known(index, path) && reported.insert(path.outer()) {
                let place = ManifestLocation::new(index, document, path.outer());
                let (from, to) = (site.found.reference.clone(), site.target.clone());
                proof.stayed.push(UnmovedImage { from, to, place });
            }
        });
    }
}
