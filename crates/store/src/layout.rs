//! The two documents of an OCI image layout (image-spec 1.1, image-layout.md): `oci-layout` and
//! `index.json`. They are read as any tool wrote them, entries that Gantry does not understand are
//! kept, and the same content is always written as the same bytes.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde::Deserialize as _;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value, json};
use types::json::{MAX_JSON_NODES, parse_json};
use types::{Descriptor, Digest, Reference, Root, annotation, media_type};

/// The file that marks a folder as a layout.
pub const MARKER: &str = "oci-layout";
/// The file that lists what the layout holds.
pub const INDEX: &str = "index.json";
/// The largest `index.json` that is read, in bytes: about a hundred thousand roots. A hostile bundle
/// or layout must not fill the memory; see also [`MAX_JSON_NODES`].
pub const MAX_INDEX: u64 = 64 << 20;
/// The registry in the name of an entry that has no full name. Podman names images that were built on
/// the machine in the same way.
const LOCAL: &str = "localhost";

/// The content of the file [`MARKER`].
pub fn marker_bytes() -> &'static [u8] {
    br#"{"imageLayoutVersion":"1.0.0"}"#
}

/// The bytes of an `index.json` that holds `roots` and nothing else.
pub fn index_bytes(roots: &[Root]) -> Vec<u8> {
    let mut index = LayoutIndex::empty();
    index.put_roots(roots);
    index.to_bytes()
}

/// An `index.json`: its entries as they were written, also those that Gantry does not understand.
#[derive(Debug, Clone)]
pub(crate) struct LayoutIndex {
    document: Map<String, Value>,
    entries: Vec<LayoutEntry>,
    /// The names and digests of all entries, made when first asked for; the index does not change
    /// afterwards.
    named: OnceLock<HashSet<(Reference, Digest)>>,
}

/// One entry of `index.json`.
#[derive(Debug, Clone)]
struct LayoutEntry {
    value: Value,
    /// The entry as a descriptor; `None` when Gantry does not know the algorithm of its digest.
    descriptor: Option<Box<Descriptor>>,
}

impl LayoutIndex {
    pub(crate) fn empty() -> Self {
        let mut document = Map::new();
        document.insert("schemaVersion".into(), json!(2));
        document.insert("mediaType".into(), json!(media_type::OCI_INDEX));
        Self { document, entries: Vec::new(), named: OnceLock::new() }
    }

    /// Reads the document; `name` is what an error calls it.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> types::Result<Self> {
        let error = |message: &str| types::Error::Document {
            document: name.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
        };
        let mut document: Map<String, Value> =
            parse_json(name, "a valid OCI index", bytes, MAX_JSON_NODES)?;
        if document.get("schemaVersion") != Some(&json!(2)) {
            return Err(error("not a valid OCI index: schemaVersion must be 2"));
        }
        let entries = match document.remove("manifests") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                return Err(error("not a valid OCI index: manifests must be a list"));
            }
        };
        let entries = entries
            .into_iter()
            .map(|value| {
                // Not an error: an entry with another digest algorithm belongs to another tool and is kept.
                let descriptor = Descriptor::deserialize(&value).ok().map(Box::new);
                LayoutEntry { value, descriptor }
            })
            .collect();
        Ok(Self { document, entries, named: OnceLock::new() })
    }

    /// The document as text, its entries sorted by name, then digest.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Indented, so that people and diffs can read it; keys keep the order in which they were read.
        // Values with string keys and a vector cannot fail to be written.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Whether an entry of that name has the digest. `folder` as in [`Self::roots`].
    pub(crate) fn names_digest(&self, name: &Reference, digest: Digest, folder: &str) -> bool {
        let named = self.named.get_or_init(|| {
            let roots = self.entries.iter().filter_map(|entry| entry.to_root(folder));
            roots.map(|root| (root.name, root.descriptor.digest)).collect()
        });
        named.contains(&(name.clone(), digest))
    }

    /// Adds the roots; one of the same name is replaced.
    pub(crate) fn put_roots(&mut self, roots: &[Root]) {
        self.named = OnceLock::new();
        let names: std::collections::BTreeSet<&Reference> =
            roots.iter().map(|root| &root.name).collect();
        // Entries with a bare tag stay: they have no full name that could be replaced.
        self.entries.retain(|entry| entry.full_name().is_none_or(|name| !names.contains(&name)));
        // Of two roots with one name in one call the last one counts, as it does in two calls.
        let last: std::collections::BTreeMap<&Reference, &Root> =
            roots.iter().map(|root| (&root.name, root)).collect();
        self.entries.extend(last.into_values().map(|root| LayoutEntry {
            // A descriptor has string keys only: this cannot fail, and null is skipped below.
            value: serde_json::to_value(&root.descriptor).unwrap_or_default(),
            descriptor: Some(Box::new(root.descriptor.clone())),
        }));
    }

    /// Removes the entries of that name and returns whether there was one. `folder` as in
    /// [`Self::roots`].
    pub(crate) fn remove_root(&mut self, name: &Reference, folder: &str) -> bool {
        self.named = OnceLock::new();
        let before = self.entries.len();
        self.entries.retain(|entry| entry.to_root(folder).is_none_or(|root| root.name != *name));
        self.entries.len() < before
    }

    /// All entries as roots, sorted by name, then digest. An entry with a bare tag (regclient,
    /// oras, `skopeo copy … oci:DIR:TAG`) is called `localhost/FOLDER:TAG`, one without any name
    /// `localhost/FOLDER@DIGEST`, after the name of the layout's `folder`.
    pub(crate) fn roots(&self, folder: &str) -> Vec<Root> {
        let mut roots: Vec<Root> =
            self.entries.iter().filter_map(|entry| entry.to_root(folder)).collect();
        // By digest as well: two entries of one name must not change places from run to run.
        roots.sort_by(|a, b| (&a.name, a.descriptor.digest).cmp(&(&b.name, b.descriptor.digest)));
        // Some tools list one manifest twice.
        roots.dedup();
        roots
    }

    /// Digests of algorithms that Gantry does not know, and so cannot follow.
    pub(crate) fn foreign_digests(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| entry.descriptor.is_none())
            .map(|entry| entry.value["digest"].as_str().unwrap_or("an entry without a digest"))
    }
}

impl Serialize for LayoutIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<&Value> = self.entries.iter().map(|entry| &entry.value).collect();
        entries.sort_by_cached_key(|entry| sort_key(entry));
        let mut map = serializer.serialize_map(Some(self.document.len() + 1))?;
        for (key, value) in &self.document {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("manifests", &entries)?;
        map.end()
    }
}

// === impl Entry ===

impl LayoutEntry {
    /// The full name that the entry carries.
    fn full_name(&self) -> Option<Reference> {
        Some(Root::from_descriptor(self.descriptor.as_deref()?)?.name)
    }

    fn to_root(&self, folder: &str) -> Option<Root> {
        let descriptor = self.descriptor.as_deref()?;
        Root::from_descriptor(descriptor).or_else(|| {
            let name = local_name(descriptor, folder)?;
            Some(Root {
                name,
                kind: types::RootKind::from_descriptor(descriptor),
                descriptor: descriptor.clone(),
            })
        })
    }
}

/// The made-up name of an entry that names no repository.
fn local_name(descriptor: &Descriptor, folder: &str) -> Option<Reference> {
    let repository = repository_from_folder(folder);
    let by_digest = |digest: Digest| Reference::new(LOCAL, &repository, None, Some(digest));
    descriptor
        .annotations
        .get(annotation::REF_NAME)
        .and_then(|tag| Reference::new(LOCAL, &repository, Some(tag), None).ok())
        .or_else(|| by_digest(descriptor.digest).ok())
}

/// A folder's name as a repository segment: lower case, with dashes for characters that are not
/// allowed. `My Images_2` becomes `my-images-2`.
fn repository_from_folder(folder: &str) -> String {
    let dashed: String = folder
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    match dashed.trim_matches('-') {
        "" => "layout".to_owned(),
        name => name.to_owned(),
    }
}

/// What entries are sorted by: the name as the entry has it, then the digest.
fn sort_key(entry: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let annotations = &entry["annotations"];
    let name = match &annotations[annotation::IMAGE_NAME] {
        Value::Null => text(&annotations[annotation::REF_NAME]),
        name => text(name),
    };
    (name, text(&entry["digest"]))
}
