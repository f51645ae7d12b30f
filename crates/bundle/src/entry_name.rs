//! The names of a bundle file's entries in its tar archive.

use types::Digest;

use crate::index::{BundleEntry, BundleEntryKind};
use crate::tar_layout::VOLUME_NAME;

/// Digits of the offset in the name of a piece: any u64 fits, and names sort like the numbers.
const OFFSET_DIGITS: usize = 20;

/// The entry's name in the tar archive. Names are always made from the index, never read from the
/// archive.
pub(crate) fn entry_name(entry: &BundleEntry) -> String {
    match entry.kind {
        BundleEntryKind::Volume => VOLUME_NAME.into(),
        BundleEntryKind::OciLayout => "oci-layout".into(),
        BundleEntryKind::Roots => "index.json".into(),
        BundleEntryKind::Lock => "gantry/lock.yaml".into(),
        BundleEntryKind::Base => "gantry/base.json".into(),
        BundleEntryKind::Bundle => "gantry/bundle.json".into(),
        BundleEntryKind::Document | BundleEntryKind::Blob => blob_entry_name(
            &entry.blob,
            (entry.length != entry.blob_size).then_some(entry.blob_offset),
        ),
    }
}

/// The path of a blob in an OCI image layout. A piece has its offset in the blob appended, so that
/// `cat HEX.* > HEX` joins the pieces.
fn blob_entry_name(digest: &Digest, piece: Option<u64>) -> String {
    let path = digest.layout_path();
    match piece {
        None => path,
        Some(place) => format!("{path}.{place:0OFFSET_DIGITS$}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tar_layout::{build_tar_header, entry_header_length};

    #[test]
    fn the_header_of_each_name_has_the_length_that_is_planned() {
        for digest in [Digest::Sha256([0xab; 32]), Digest::Sha512([0xcd; 64])] {
            let planned = entry_header_length(digest.algorithm());
            for piece in [None, Some(0), Some(u64::MAX)] {
                let header = build_tar_header(&blob_entry_name(&digest, piece), 5).unwrap();
                assert_eq!(header.len() as u64, planned, "{digest} {piece:?}");
            }
        }
    }
}
