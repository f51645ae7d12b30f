//! The proof: with the overlay every image is the site's, and nothing else has changed.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use types::Reference;

use super::compiled::CompiledIn;
use super::difference::{Difference, differences};
use super::explained::{Allowed, Moves, is_explained};
use super::locked::NotLocked;
use super::site::{Rendered, Site};
use crate::find::{Broken, Place, text};
use crate::path::{Path, Step};

/// What a render with the overlay shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The images that are the site's now.
    pub moved: Vec<Moved>,
    /// The images that stayed as they are.
    pub stayed: Vec<Stayed>,
    /// What else has changed and should not have.
    pub changes: Vec<Change>,
    /// What still points outside without being one of the places that stayed.
    pub foreign: Vec<Foreign>,
    /// Image fields that hold no image, with and without the overlay: the chart or its values are
    /// at fault, and nothing can be proven of them.
    pub broken: Vec<Broken>,
    /// The images that operators will pull from outside, and that no manifest names.
    pub compiled_in: Vec<CompiledIn>,
    /// Likewise, where it cannot be told whether they will: not proven, and nothing against it.
    pub possible: Vec<CompiledIn>,
    /// The images that the lock does not have, so that the site will not have them.
    pub not_locked: Vec<NotLocked>,
}

/// An image that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The image.
    pub from: Reference,
    /// Its name at the site.
    pub to: Reference,
    /// Where it stands.
    pub place: Place,
}

/// An image that was not moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stayed {
    /// The image.
    pub from: Reference,
    /// The name that it has at the site.
    pub to: Reference,
    /// Where it stands.
    pub place: Place,
}

/// Something that changed and is no reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where it stands.
    pub place: Place,
    /// What stood there; absent where nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What stands there; absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Something that points outside the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// Where it stands.
    pub place: Place,
    /// The text that points outside.
    pub text: String,
}

/// What a proof says in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything is moved and nothing else changed.
    Proven,
    /// Some images stayed as they are; everything else is proven.
    Leftovers,
    /// Something changed that should not have, points outside unseen, or is not in the lock.
    Refuted,
}

impl Verdict {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Leftovers => "leftovers",
            Self::Refuted => "refuted",
        }
    }
}

impl Proof {
    /// What the proof says.
    pub fn verdict(&self) -> Verdict {
        let is_refuted =
            !self.changes.is_empty() || !self.foreign.is_empty() || !self.not_locked.is_empty();
        let is_all =
            self.stayed.is_empty() && self.compiled_in.is_empty() && self.broken.is_empty();
        match (is_refuted, is_all) {
            (true, _) => Verdict::Refuted,
            (false, true) => Verdict::Proven,
            (false, false) => Verdict::Leftovers,
        }
    }
}

/// The places that differ between two renders of the same values.
pub(crate) fn volatile(one: &Rendered, other: &Rendered) -> BTreeSet<(usize, Path)> {
    let mut found = BTreeSet::new();
    for (index, document) in one.manifests.documents.iter().enumerate() {
        let Some(same) = other.same_document(one, index) else { continue };
        let after = &other.manifests.documents[same];
        // Most documents are the same text; only the others are worth a walk.
        if document.text != after.text {
            let all = differences(&document.value, &after.value);
            found.extend(all.into_iter().map(|difference| (index, difference.path)));
        }
    }
    found
}

/// Proves `after`, a render with the overlay, against `before`, one without it.
pub(crate) fn prove(
    before: &Rendered,
    after: &Rendered,
    sites: &[Site],
    allowed: &Allowed,
    is_home: &dyn Fn(&Reference) -> bool,
) -> Proof {
    let mut proof = Proof::default();
    let mut moved = Moves::new();
    let mut stays: BTreeSet<(usize, Path)> = BTreeSet::new();
    for site in sites {
        let (from, to) = (site.found.reference.clone(), site.target.clone());
        let place = site.found.place.clone();
        if site.text_in(before, after).as_deref() == Some(&site.wanted) {
            for path in site.name_paths() {
                moved.entry((place.document, path)).or_default().push(site);
            }
            proof.moved.push(Moved { from, to, place });
        } else {
            stays.extend(site.name_paths().map(|path| (place.document, path.outer())));
            proof.stayed.push(Stayed { from, to, place });
        }
    }
    for (index, document) in before.manifests.documents.iter().enumerate() {
        let place = |path: Path| Place {
            template: document.template.clone(),
            document: index,
            kind: document.kind().to_owned(),
            name: document.name().to_owned(),
            path,
        };
        let Some(same) = after.same_document(before, index) else {
            let before = Some("the whole document".to_owned());
            proof.changes.push(Change { place: place(Path::default()), before, after: None });
            continue;
        };
        let same = &after.manifests.documents[same];
        if same.text == document.text {
            continue;
        }
        for difference in differences(&document.value, &same.value) {
            if !is_explained(&difference, index, &moved, allowed) {
                let Difference { path, before, after } = difference;
                proof.changes.push(Change { place: place(path), before, after });
            }
        }
    }
    added(before, after, &mut proof);
    foreign(before, after, sites, &stays, is_home, &mut proof);
    proof
}

fn added(before: &Rendered, after: &Rendered, proof: &mut Proof) {
    for (index, document) in after.manifests.documents.iter().enumerate() {
        if before.same_document(after, index).is_none() {
            let place = Place {
                template: document.template.clone(),
                document: index,
                kind: document.kind().to_owned(),
                name: document.name().to_owned(),
                path: Path::default(),
            };
            let after = Some("the whole document".to_owned());
            proof.changes.push(Change { place, before: None, after });
        }
    }
}

/// What still points outside: every find that is no image of the site, and every text that still
/// has the name of an image that was to move.
fn foreign(
    before: &Rendered,
    after: &Rendered,
    sites: &[Site],
    stays: &BTreeSet<(usize, Path)>,
    is_home: &dyn Fn(&Reference) -> bool,
    proof: &mut Proof,
) {
    let own = |document: usize| before.same_document(after, document);
    let is_known = |document: usize, path: &Path| {
        own(document).is_some_and(|document| stays.contains(&(document, path.outer())))
    };
    let findings = after.findings_beside(before);
    for found in &findings.images {
        let is_known = found.parts.iter().any(|part| is_known(found.place.document, &part.path));
        if !is_home(&found.reference) && !is_known {
            let text = found.reference.to_string();
            proof.foreign.push(Foreign { place: found.place.clone(), text });
        }
    }
    for broken in &findings.broken {
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
            proof.foreign.push(Foreign { place, text });
        }
    }
    let names: BTreeSet<&str> = sites.iter().filter_map(|site| hosted_name(&site.text)).collect();
    let hosts: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_inclusive('/').next()).collect();
    for (index, document) in after.manifests.documents.iter().enumerate() {
        let mut visit = |path: &Path, text: &str| {
            // Few hosts stand for many names.
            if !hosts.iter().any(|host| text.contains(host)) {
                return;
            }
            let Some(name) = names.iter().find(|name| mentions(text, name)) else { return };
            if !is_known(index, path) {
                let place = Place {
                    template: document.template.clone(),
                    document: index,
                    kind: document.kind().to_owned(),
                    name: document.name().to_owned(),
                    path: path.clone(),
                };
                proof.foreign.push(Foreign { place, text: (*name).to_owned() });
            }
        };
        // What a schema tells its readers is never pulled.
        if document.kind() == "CustomResourceDefinition" {
            continue;
        }
        let is_secret = document.kind() == "Secret";
        texts(&document.value, &Path::default(), is_secret, &mut visit);
    }
}

/// Calls `visit` with every text of a document, those of Secrets decoded.
fn texts(value: &Value, path: &Path, is_secret: bool, visit: &mut impl FnMut(&Path, &str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                texts(value, &path.key(key), is_secret, visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(item, &path.index(index), is_secret, visit);
            }
        }
        Value::String(text) => {
            let is_data = matches!(path.steps(), [Step::Key(data), _] if data == "data");
            match text::decode(text).filter(|_| is_secret && is_data) {
                Some(decoded) => visit(path, &decoded),
                None => visit(path, text),
            }
        }
        _ => {}
    }
}

/// The name in a reference, if it has its registry's host in front.
pub(crate) fn hosted_name(text: &str) -> Option<&str> {
    let name = &text[..super::site::name_length(text)];
    let (host, _) = name.split_once('/')?;
    host.contains(['.', ':']).then_some(name)
}

/// Whether a text has a name as a whole: not as the tail of a longer name, and not in a URL.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let behind = text[start + name.len()..].chars().next();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_".contains(c);
        !before.is_some_and(is_part)
            && !behind.is_some_and(|c| c.is_ascii_alphanumeric() || "-_/".contains(c))
    })
}
