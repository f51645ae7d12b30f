//! What the tests of the store share: small images with layers that nobody else has.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use gantry_store::{Store, WriteStart, Writer};
use serde_json::json;
use types::{Descriptor, Digest, Root, RootKind, media_type};

/// A manifest with these layers, all of it in the store, not published.
pub(crate) fn image(store: &Store, name: &str, layers: &[&[u8]]) -> Root {
    let layers: Vec<Descriptor> = layers.iter().map(|bytes| blob(store, bytes)).collect();
    let config = blob(store, b"{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor { media_type: media_type::OCI_CONFIG.into(), ..config },
        "layers": layers,
    })
    .to_string();
    let digest = store.put_bytes(manifest.as_bytes()).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    Root::new(name.parse().unwrap(), RootKind::Image, descriptor)
}

pub(crate) fn blob(store: &Store, bytes: &[u8]) -> Descriptor {
    let digest = store.put_bytes(bytes).unwrap();
    Descriptor::new(media_type::OCI_LAYER_TAR, digest, bytes.len() as u64)
}

/// The writer of a blob that must not be there yet.
pub(crate) fn writer(store: &Store, digest: &Digest, size: u64) -> Writer {
    match store.open_writer(digest, size).unwrap() {
        WriteStart::Writer(writer) => writer,
        WriteStart::Present => panic!("{digest} is there already"),
    }
}

/// Bytes that differ for each seed and do not repeat (xorshift64*).
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}
