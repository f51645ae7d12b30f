//! A render that can be compared with others of the same chart: it finds the same document in
//! another render, the text at a path (also inside embedded YAML or base64), and the images. Each
//! is read at most once, and a document with the same text as in an earlier render is not read
//! again: a chart is rendered several times, and most of its documents never change.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::edit::embedded::{follow_path, resolve_text};
use crate::find::{self, ImageScan};
use crate::manifest::Manifests;
use crate::path::{DocumentPath, PathStep};

/// A render with an index of its documents, so that a document is found again in another render
/// even if documents before it are new or gone.
pub(crate) struct IndexedRender {
    pub(crate) manifests: Manifests,
    /// The key of each document, by its number.
    keys: Vec<DocumentKey>,
    /// The number of each document, by its key.
    places: BTreeMap<DocumentKey, usize>,
    /// Parsed contents of texts, by the document's number and the path of the text. Behind a mutex,
    /// as renders are read on several threads.
    opened: Mutex<HashMap<(usize, DocumentPath), Option<Value>>>,
    findings: OnceLock<ImageScan>,
}

/// What identifies a document: its template, its kind, and its number among those of the same
/// template and kind. Not its name, since that may have a marker in it.
type DocumentKey = (Option<String>, String, usize);

impl IndexedRender {
    /// Indexes the documents of a render.
    pub(crate) fn new(manifests: Manifests) -> Self {
        let mut counts: BTreeMap<(Option<String>, String), usize> = BTreeMap::new();
        let mut keys = Vec::new();
        for document in &manifests.documents {
            let own = (document.template.clone(), document.kind().to_owned());
            let count = counts.entry(own.clone()).or_default();
            keys.push((own.0, own.1, *count));
            *count += 1;
        }
        let places = keys.iter().cloned().enumerate().map(|(index, key)| (key, index)).collect();
        let (opened, findings) = (Mutex::default(), OnceLock::new());
        Self { manifests, keys, places, opened, findings }
    }

    /// The number in this render of the document that has the number `document` in `other`; `None`
    /// if this render does not have it.
    pub(crate) fn find_same_document(&self, other: &Self, document: usize) -> Option<usize> {
        self.places.get(other.keys.get(document)?).copied()
    }

    /// The text at a path of a document. The path may lead into embedded documents:
    /// `data.config|YAML|image`.
    pub(crate) fn text_at(&self, document: usize, path: &DocumentPath) -> Option<String> {
        let root = &self.manifests.documents.get(document)?.value;
        let inside = path.steps().iter().rposition(|step| matches!(step, PathStep::Inside(_)));
        let Some(inside) = inside else { return resolve_text(root, path) };
        // The part of the path up to the last embedded document is shared by many paths: that
        // document is parsed once and kept.
        let (holder, rest) = path.steps().split_at(inside + 1);
        let (holder, rest) = (holder.iter().cloned().collect(), rest.iter().cloned().collect());
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let value = opened.entry((document, holder)).or_insert_with_key(|(_, holder)| {
            Some(follow_path(root, holder.steps())?.into_owned())
        });
        resolve_text(value.as_ref()?, &rest)
    }

    /// The images in this render.
    pub(crate) fn findings(&self) -> &ImageScan {
        self.findings.get_or_init(|| find::find_images_in_manifests(&self.manifests))
    }

    /// The images in this render, of which those in documents with the same text as in `before` are
    /// taken from there.
    pub(crate) fn findings_reusing(&self, before: &Self) -> &ImageScan {
        self.findings.get_or_init(|| {
            let documents = &self.manifests.documents;
            let mut changed =
                Manifests { unread: self.manifests.unread.clone(), ..Manifests::default() };
            let mut own = Vec::new();
            let mut known: BTreeMap<usize, usize> = BTreeMap::new();
            for (index, document) in documents.iter().enumerate() {
                let same = before.find_same_document(self, index);
                match same.filter(|same| before.manifests.documents[*same].text == document.text) {
                    Some(same) => {
                        known.insert(same, index);
                    }
                    None => {
                        changed.documents.push(document.clone());
                        own.push(index);
                    }
                }
            }
            // The finder numbers the changed documents from 0: give them their numbers here.
            let mut findings = find::find_images_in_manifests(&changed);
            for found in &mut findings.images {
                found.place.document = own[found.place.document];
            }
            for broken in &mut findings.broken {
                broken.place.document = own[broken.place.document];
            }
            let all = before.findings();
            for found in &all.images {
                if let Some(index) = known.get(&found.place.document) {
                    let mut found = found.clone();
                    found.place.document = *index;
                    findings.images.push(found);
                }
            }
            for broken in &all.broken {
                if let Some(index) = known.get(&broken.place.document) {
                    let mut broken = broken.clone();
                    broken.place.document = *index;
                    findings.broken.push(broken);
                }
            }
            // In the order of the documents, as if all had been read.
            findings.images.sort_by_key(|found| found.place.document);
            findings.broken.sort_by_key(|broken| broken.place.document);
            findings
        })
    }
}
