//! A plain file, read from its artifact: an entry of `files:`, a model that was given by its URL, or
//! the stream of a set of manifests.

use crate::annotation::TITLE;
use crate::snapshot::{check_model_path, find_annotation};
use crate::{Digest, Manifest, Root, RootKind};

/// A plain file under its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedFile {
    /// Its own name: one segment of a path.
    pub title: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its sha256.
    pub digest: Digest,
}

impl CarriedFile {
    /// The file of a root; `None` when the root is no file, or when its name would lead out of a folder:
    /// manifests come from registries that anybody may write to.
    pub fn from_root(root: &Root, manifest: &Manifest) -> Option<Self> {
        let [layer] = manifest.layers.as_slice() else { return None };
        let title = find_annotation(root, manifest, TITLE).or_else(|| {
            // ORAS names the file at the layer alone.
            layer.annotations.get(TITLE).map(String::as_str)
        })?;
        (matches!(root.kind, RootKind::File | RootKind::Manifests) && is_file_name(title))
            .then(|| Self { title: title.to_owned(), size: layer.size, digest: layer.digest })
    }
}

/// Whether a text can be the name of a file in a folder of Gantry's: Gantry's own `.gantry` is not free.
fn is_file_name(text: &str) -> bool {
    check_model_path(text).is_ok() && !text.contains('/') && !text.starts_with(".gantry")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lock::Blob;
    use crate::{Descriptor, media_type};

    #[test]
    fn a_file_has_a_name_that_stays_in_its_folder() {
        let blob = Blob { digest: Digest::Sha256([3; 32]), size: 9 };
        let layer = Descriptor::new("application/octet-stream", blob.digest, blob.size);
        let text = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [layer]});
        let manifest = Manifest::parse("t", text.to_string().as_bytes()).unwrap();
        let name = "files.gantry/x:1".parse().unwrap();
        let title = |title: &str| {
            let root = Root::for_file(&name, blob, title);
            CarriedFile::from_root(&root, &manifest).map(|file| file.title)
        };
        assert_eq!(title("Model (Q4).gguf").as_deref(), Some("Model (Q4).gguf"));
        for bad in ["", "..", "a/b", "../x", ".gantry", "a\nb", "a\\b"] {
            assert_eq!(title(bad), None, "{bad:?}");
        }
    }
}
