//! A plain file as an OCI artifact with one layer. Entries of `files:`, models given by a URL and sets of
//! plain manifests are stored in this form, so that a registry can hold them like images. The manifest
//! depends on the file's name and content only: the same file always gets the same digest.

use std::collections::BTreeMap;
use std::path::Path;

use store::Store;
use store::hash::sha256;
use types::lock::{Blob, EMPTY};
use types::{Descriptor, Manifest, Reference, Root, annotation, media_type};

use crate::{Error, Result};

/// The host in the names of files: `files.gantry/<name>:<first 12 hex of the sha256>`.
const HOST: &str = "files.gantry";
/// The host in the names of sets of manifests: `manifests.gantry/<release>:<first 12 hex of the sha256>`.
const MANIFESTS_HOST: &str = "manifests.gantry";
/// The content of the empty config (image-spec 1.1, "Guidance for an empty descriptor").
const EMPTY_CONFIG: &[u8] = b"{}";
/// Media type of a file of unknown type (RFC 2046, section 4.5.1).
const OCTETS: &str = "application/octet-stream";
/// Longest name of a file in a reference. Registries limit the whole repository path to 255 bytes;
/// the rest is room for the host and the site's prefix.
const MAX_NAME: usize = 200;

/// A file's artifact: its name, its manifest and its content's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileArtifact {
    /// The artifact's name: `files.gantry/<file>:<first 12 hex digits of the sha256>`.
    pub reference: Reference,
    /// The file's own name, unchanged; the annotation that restores it on the other side.
    pub title: String,
    /// The content's digest and length.
    pub content: Blob,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's digest and length.
    pub manifest_blob: Blob,
    /// The root to publish in a store.
    pub root: Root,
}

/// Builds the artifact of a file with this name and content.
pub fn build_file_artifact(title: &str, content: Blob) -> Result<FileArtifact> {
    let kind = ArtifactKind { host: HOST, artifact: media_type::GANTRY_FILE, layer: OCTETS };
    build_artifact(&kind, &to_repository_segment(title), title, content, |name, manifest| {
        Root::for_file(name, manifest, title)
    })
}

/// Builds the artifact of a set of plain manifests: `manifests.gantry/<release>:<first 12 hex digits of
/// the sha256>`, with the stream as its one layer.
pub fn build_manifests_artifact(release: &str, content: Blob) -> Result<FileArtifact> {
    let kind = ArtifactKind {
        host: MANIFESTS_HOST,
        artifact: media_type::GANTRY_MANIFESTS,
        layer: media_type::YAML,
    };
    let title = format!("{release}.yaml");
    build_artifact(&kind, &to_repository_segment(release), &title, content, |name, manifest| {
        Root::for_manifests(name, manifest, release)
    })
}

/// What tells artifacts of one kind from others.
struct ArtifactKind {
    /// The host in their names.
    host: &'static str,
    /// The artifact type of the manifest.
    artifact: &'static str,
    /// The media type of the layer.
    layer: &'static str,
}

fn build_artifact(
    kind: &ArtifactKind,
    segment: &str,
    title: &str,
    content: Blob,
    make_root: impl FnOnce(&Reference, Blob) -> Root,
) -> Result<FileArtifact> {
    let reference = Reference::new(kind.host, segment, Some(&content.digest.short_hex()), None)?;
    let mut layer = Descriptor::new(kind.layer, content.digest, content.size);
    layer.annotations.insert(annotation::TITLE.to_owned(), title.to_owned());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: Some(kind.artifact.to_owned()),
        config: Some(Descriptor::new(media_type::OCI_EMPTY, EMPTY.digest, EMPTY.size)),
        layers: vec![layer],
        manifests: vec![],
        subject: None,
        annotations: BTreeMap::from([(annotation::TITLE.to_owned(), title.to_owned())]),
    };
    let manifest = serde_json::to_vec(&manifest)
        .map_err(|error| Error::invalid_document(format!("the manifest of {title}"), error))?;
    let manifest_blob = Blob { digest: sha256(&manifest), size: manifest.len() as u64 };
    let root = make_root(&reference, manifest_blob);
    Ok(FileArtifact { reference, title: title.to_owned(), content, manifest, manifest_blob, root })
}

impl FileArtifact {
    /// Writes the manifest and its empty config to the store. The content is written by the caller.
    pub fn write_to_store(&self, store: &Store) -> Result<()> {
        store.put_bytes(EMPTY_CONFIG)?;
        store.put_bytes(&self.manifest)?;
        Ok(())
    }
}

/// Copies a local file into the store and builds its artifact. Fails with [`Error::Read`] for a
/// folder, with [`Error::NotFound`] where there is nothing. Blocks on the disk.
pub fn import_file(path: &Path, store: &Store) -> Result<FileArtifact> {
    let title = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let title = title.filter(|_| !path.is_dir()).ok_or_else(|| Error::Read {
        what: path.display().to_string(),
        cause: std::io::Error::other("it is not a regular file; pack a folder with tar first"),
    })?;
    // Opened here only to tell an unreadable input (exit code 2) from a failure of the store.
    std::fs::File::open(path).map_err(|cause| Error::unreadable_path(path, cause))?;
    let (digest, size) = store.add_file(path)?;
    let documents = build_file_artifact(&title, Blob { digest, size })?;
    documents.write_to_store(store)?;
    Ok(documents)
}

/// A file name as one segment of a repository path: lower case, other characters as `-`, separators
/// only single and between letters or digits (distribution-spec 1.1, "Pulling manifests").
///
/// `Llama 3.2 (Q4_K_M).gguf` becomes `llama-3.2-q4_k_m-gguf`.
pub(crate) fn to_repository_segment(title: &str) -> String {
    let mut name = String::with_capacity(title.len());
    for sign in title.chars().map(|sign| sign.to_ascii_lowercase()) {
        // The digest in the tag keeps names apart that are equal after this.
        if name.len() >= MAX_NAME {
            break;
        }
        if sign.is_ascii_lowercase() || sign.is_ascii_digit() {
            name.push(sign);
        } else if !name.is_empty() && !name.ends_with(['-', '.', '_']) {
            name.push(if matches!(sign, '.' | '_') { sign } else { '-' });
        }
    }
    let name = name.trim_end_matches(['-', '.', '_']);
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_file_name_becomes_a_valid_reference() {
        let content = Blob { digest: sha256(b"x"), size: 1 };
        for (title, repository) in [
            ("runbook.pdf", "runbook.pdf"),
            ("Llama 3.2 (Q4_K_M).gguf", "llama-3.2-q4_k_m-gguf"),
            ("__init__.py", "init_py"),
            ("äöü", "file"),
        ] {
            let documents = build_file_artifact(title, content).unwrap();
            assert_eq!(documents.reference.registry(), HOST);
            assert_eq!(documents.reference.repository(), repository, "{title}");
            assert_eq!(documents.title, title);
        }
    }

    #[test]
    fn the_empty_config_is_what_its_digest_says() {
        assert_eq!(sha256(EMPTY_CONFIG), EMPTY.digest);
    }
}
