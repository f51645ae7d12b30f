//! Finds texts that mention an image without being a location to pull it from: the allowed
//! repositories of a policy, a comment in a script of a ConfigMap, a setting with the name but not
//! the tag. A name with the registry's host in front is unambiguous, and left unchanged it would
//! still point outside the site, so the post-renderer moves it as well.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::find::{Confidence, Found, Part, Pattern, Place, Role, text};
use crate::manifest::{Document, Manifests};
use crate::path::{Encoding, Path, Step};
use crate::relocate::prove;
use crate::relocate::site::Site;

/// Names of images with their host (`quay.io/org/app`), each with one location of the image.
type Names<'a> = BTreeMap<&'a str, &'a Site>;

/// Finds the texts that mention the images of `sites` by host and path. Returns one entry for each
/// image and text.
pub(super) fn mentions(manifests: &Manifests, sites: &[Site]) -> Vec<Site> {
    let names: Names =
        sites.iter().filter_map(|site| Some((prove::hosted_name(&site.text)?, site))).collect();
    let mut found = Vec::new();
    if names.is_empty() {
        return found;
    }
    for (index, document) in manifests.documents.iter().enumerate() {
        // Descriptions in a schema are for readers; nothing acts on them.
        if document.kind() != "CustomResourceDefinition" {
            let mut walk = Walk { names: &names, document, index, found: &mut found };
            walk.value(&document.value, &Path::default());
        }
    }
    found
}

/// Whether a location is that of a mention.
pub(super) fn is_mention(site: &Site) -> bool {
    site.found.pattern == Pattern::Text && site.found.note.as_deref() == Some(NOTE)
}

/// The note that marks a mention, and that reports show.
const NOTE: &str = "a text that mentions it";

/// The search through one document.
struct Walk<'a> {
    names: &'a Names<'a>,
    document: &'a Document,
    index: usize,
    found: &'a mut Vec<Site>,
}

impl Walk<'_> {
    /// Searches a value and everything in it.
    fn value(&mut self, value: &Value, path: &Path) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    self.value(value, &path.key(key));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &path.index(index));
                }
            }
            Value::String(text) => {
                let is_data = matches!(path.steps(), [Step::Key(data), _] if data == "data");
                let is_secret = is_data && self.document.kind() == "Secret";
                match text::decode(text).filter(|_| is_secret) {
                    Some(plain) => self.text(&plain, &path.inside(Encoding::Base64)),
                    None => self.text(text, path),
                }
            }
            _ => {}
        }
    }

    /// Searches a text and, if it holds a document, that too: the proof compares leaf by leaf, so
    /// each leaf that changes needs an entry of its own.
    fn text(&mut self, text: &str, path: &Path) {
        let mut is_any = false;
        for (name, site) in self.names {
            if prove::mentions(text, name) {
                is_any = true;
                self.found.push(self.site(name, site, path.inside(Encoding::Text)));
            }
        }
        if is_any && let Some((encoding, value)) = text::opened(text) {
            self.value(&value, &path.inside(encoding));
        }
    }

    /// The entry for a mention of the image of `site` at a path.
    fn site(&self, name: &str, site: &Site, path: Path) -> Site {
        let part = Part { path: path.clone(), text: name.to_owned(), role: Role::Whole };
        let place = Place {
            template: self.document.template.clone(),
            document: self.index,
            kind: self.document.kind().to_owned(),
            name: self.document.name().to_owned(),
            path,
        };
        let reference = site.found.reference.clone();
        let mut found =
            Found::new(reference, vec![part], place, Pattern::Text, Confidence::Possible);
        found.note = Some(NOTE.to_owned());
        Site::new(&found, site.target.clone())
    }
}
