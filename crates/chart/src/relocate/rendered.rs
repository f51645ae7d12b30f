//! A render that can be compared with others of the same chart: it finds the same document in
//! another render, the text at a path (also inside embedded YAML or base64), and the images. Each
//! is read at most once, and a document with the same text as in an earlier render is not read
//! again: a chart is rendered several times, and most of its documents never change.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::find::{self, Findings, text};
use crate::manifest::Manifests;
use crate::path::{Encoding, Path, Step};

/// A render with an index of its documents, so that a document is found again in another render
/// even if documents before it are new or gone.
pub(crate) struct Rendered {
    pub(crate) manifests: Manifests,
    /// The key of each document, by its number.
    keys: Vec<Key>,
    /// The number of each document, by its key.
    places: BTreeMap<Key, usize>,
    /// Parsed contents of texts, by the document's number and the path of the text. Behind a mutex,
    /// as renders are read on several threads.
    opened: Mutex<HashMap<(usize, Path), Option<Value>>>,
    findings: OnceLock<Findings>,
}

/// What identifies a document: its template, its kind, and its number among those of the same
/// template and kind. Not its name, since that may have a marker in it.
type Key = (Option<String>, String, usize);

impl Rendered {
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
    pub(crate) fn same_document(&self, other: &Self, document: usize) -> Option<usize> {
        self.places.get(other.keys.get(document)?).copied()
    }

    /// The text at a path of a document. The path may lead into embedded documents:
    /// `data.config|YAML|image`.
    pub(crate) fn text_at(&self, document: usize, path: &Path) -> Option<String> {
        let root = &self.manifests.documents.get(document)?.value;
        let inside = path.steps().iter().rposition(|step| matches!(step, Step::Inside(_)));
        let Some(inside) = inside else { return text::resolve(root, path) };
        // The part of the path up to the last embedded document is shared by many paths: that
        // document is parsed once and kept.
        let (holder, rest) = path.steps().split_at(inside + 1);
        let (holder, rest) = (holder.iter().cloned().collect(), rest.iter().cloned().collect());
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let value = opened
            .entry((document, holder))
            .or_insert_with_key(|(_, holder)| open(root, holder.steps()));
        text::resolve(value.as_ref()?, &rest)
    }

    /// The images in this render.
    pub(crate) fn findings(&self) -> &Findings {
        self.findings.get_or_init(|| find::in_manifests(&self.manifests))
    }

    /// The images in this render, of which those in documents with the same text as in `before` are
    /// taken from there.
    pub(crate) fn findings_beside(&self, before: &Self) -> &Findings {
        self.findings.get_or_init(|| {
            let documents = &self.manifests.documents;
            let mut changed =
                Manifests { unread: self.manifests.unread.clone(), ..Manifests::default() };
            let mut own = Vec::new();
            let mut known: BTreeMap<usize, usize> = BTreeMap::new();
            for (index, document) in documents.iter().enumerate() {
                let same = before.same_document(self, index);
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
            let mut findings = find::in_manifests(&changed);
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

/// The embedded document that the steps lead to; their last step opens it.
fn open(root: &Value, steps: &[Step]) -> Option<Value> {
    let mut value = Cow::Borrowed(root);
    for step in steps {
        value = match (step, value) {
            (Step::Key(key), Cow::Borrowed(value)) => Cow::Borrowed(value.get(key)?),
            (Step::Key(key), Cow::Owned(mut value)) => Cow::Owned(value.get_mut(key)?.take()),
            (Step::Index(index), Cow::Borrowed(value)) => Cow::Borrowed(value.get(index)?),
            (Step::Index(index), Cow::Owned(mut value)) => Cow::Owned(value.get_mut(index)?.take()),
            (Step::Inside(encoding), value) => {
                let text = value.as_str()?;
                Cow::Owned(match encoding {
                    Encoding::Base64 => Value::String(text::decode(text)?),
                    Encoding::Text => Value::String(text.to_owned()),
                    _ => text::opened(text)?.1,
                })
            }
        };
    }
    Some(value.into_owned())
}
