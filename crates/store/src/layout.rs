//! The two documents of an OCI image layout (image-spec 1.1, image-layout.md): `oci-layout` and
//! `index.json`. They are read as any tool wrote them, entries that Gantry does not understand are
//! kept, and the same content is always written as the same bytes.

use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use types::{Cause, Descriptor, Digest, Reference, Root, annotation, media_type};

/// The file that marks a folder as a layout.
pub const MARKER: &str = "oci-layout";
/// The file that lists what the layout holds.
pub const INDEX: &str = "index.json";
/// The largest `index.json` that is read, in bytes: about a hundred thousand roots. A hostile bundle
/// or layout must not fill the memory.
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
}

/// One entry of `index.json`.
#[derive(Debug, Clone)]
struct LayoutEntry {
    value: Value,
    /// The entry as a descriptor; `None` when its digest is not sha256.
    descriptor: Option<Descriptor>,
}

impl LayoutIndex {
    pub(crate) fn empty() -> Self {
        let mut document = Map::new();
        document.insert("schemaVersion".into(), json!(2));
        document.insert("mediaType".into(), json!(media_type::OCI_INDEX));
        Self { document, entries: Vec::new() }
    }

    /// Reads the document; `name` is what an error calls it.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> types::Result<Self> {
        let error = |line: usize, column: usize, message: Cause| types::Error::Document {
            document: name.to_owned(),
            line: line as u64,
            column: column as u64,
            message,
        };
        let mut document: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|e| error(e.line(), e.column(), Cause::about("not a valid OCI index", e)))?;
        if document.get("schemaVersion") != Some(&json!(2)) {
            return Err(error(0, 0, "not a valid OCI index: schemaVersion must be 2".into()));
        }
        let entries = match document.remove("manifests") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                return Err(error(0, 0, "not a valid OCI index: manifests must be a list".into()));
            }
        };
        let entries = entries
            .into_iter()
            .map(|value| {
                // Not an error: an entry with another digest algorithm belongs to another tool and is kept.
                let descriptor = Descriptor::deserialize(&value).ok();
                LayoutEntry { value, descriptor }
            })
            .collect();
        Ok(Self { document, entries })
    }

    /// The document as text, its entries sorted by name, then digest.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut entries: Vec<&Value> = self.entries.iter().map(|entry| &entry.value).collect();
        entries.sort_by_key(|entry| sort_key(entry));
        let mut document = self.document.clone();
        document.insert("manifests".into(), entries.into_iter().cloned().collect());
        // Indented, so that people and diffs can read it; keys keep the order in which they were read.
        format!("{:#}\n", Value::Object(document)).into_bytes()
    }

    /// Adds the roots; one of the same name is replaced.
    pub(crate) fn put_roots(&mut self, roots: &[Root]) {
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
            descriptor: Some(root.descriptor.clone()),
        }));
    }

    /// Removes the entries of that name and returns whether there was one. `folder` as in
    /// [`Self::roots`].
    pub(crate) fn remove_root(&mut self, name: &Reference, folder: &str) -> bool {
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

    /// Digests of entries that are not sha256, which Gantry cannot follow.
    pub(crate) fn foreign_digests(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| entry.descriptor.is_none())
            .map(|entry| entry.value["digest"].as_str().unwrap_or("an entry without a digest"))
    }
}

// === impl Entry ===

impl LayoutEntry {
    /// The full name that the entry carries.
    fn full_name(&self) -> Option<Reference> {
        Some(Root::from_descriptor(self.descriptor.as_ref()?)?.name)
    }

    fn to_root(&self, folder: &str) -> Option<Root> {
        let descriptor = self.descriptor.as_ref()?;
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
