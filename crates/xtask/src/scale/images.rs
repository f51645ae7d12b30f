//! Small images in an OCI layout, and the input that names them. Each has a layer of its own and one
//! that all of them share, as images on one base have.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::json;
use store::Store;
use types::{Descriptor, Digest, Root, RootKind, media_type};

/// The layout's folder, beside the input.
const LAYOUT: &str = "layout";

/// Makes the layout and `gantry.yaml` in the folder.
pub(super) fn make_images(folder: &Path, images: usize) -> Result<(), Box<dyn Error>> {
    let layout = Store::open(folder.join(LAYOUT))?;
    let shared = put_layer(&layout, "shared")?;
    let mut roots = Vec::with_capacity(images);
    let mut entries = Vec::with_capacity(images);
    for number in 0..images {
        let name = image_name(number);
        let own = put_layer(&layout, &name)?;
        let manifest = put_manifest(&layout, &[shared.clone(), own])?;
        roots.push(Root::new(name.parse()?, RootKind::Image, manifest));
        entries.push(json!({ "image": name, "layout": format!("./{LAYOUT}") }));
    }
    layout.publish_roots(&roots)?;
    let input = json!({
        "version": 1,
        "name": "scale",
        "platforms": ["linux/amd64"],
        "images": entries,
    });
    // JSON is YAML as well.
    fs::write(folder.join("gantry.yaml"), input.to_string())?;
    Ok(fs::write(folder.join("config.yaml"), "{}")?)
}

/// The name of an image by its number.
pub(super) fn image_name(number: usize) -> String {
    format!("registry.example/team-{}/app-{number}:1.0", number % 50)
}

/// A tar with one file.
fn put_layer(layout: &Store, content: &str) -> Result<Descriptor, Box<dyn Error>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "name.txt", content.as_bytes())?;
    let bytes = tar.into_inner()?;
    let digest = layout.put_bytes(&bytes)?;
    Ok(Descriptor::new(media_type::OCI_LAYER_TAR, digest, bytes.len() as u64))
}

fn put_manifest(layout: &Store, layers: &[Descriptor]) -> Result<Descriptor, Box<dyn Error>> {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    })
    .to_string();
    let config_digest = layout.put_bytes(config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::new(media_type::OCI_CONFIG, config_digest, config.len() as u64),
        "layers": layers,
    })
    .to_string();
    let digest = layout.put_bytes(manifest.as_bytes())?;
    Ok(Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64))
}
