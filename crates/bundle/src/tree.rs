//! The BLAKE3 of one long entry by several threads: each hashes segments, one joins them.
//!
//! BLAKE3 is a binary tree over the data; a segment of a power of two at a multiple of itself is
//! one of its subtrees (`blake3::hazmat`).

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

/// Bytes that one thread hashes at once: a power of two; large enough that a disk reads in long
/// runs, small enough that a few of them are no memory.
pub(crate) const SEGMENT: u64 = 1 << 20;

/// The chaining value of one segment, which begins at a multiple of [`SEGMENT`] in its entry. Only
/// for entries longer than one segment.
pub(crate) fn segment(bytes: &[u8], offset: u64) -> ChainingValue {
    Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// The hash of an entry of `length` bytes, of whose segments these are the chaining values.
/// `length` must be more than [`SEGMENT`], and there must be one value for each segment.
pub(crate) fn join(segments: &[ChainingValue], length: u64) -> blake3::Hash {
    let (left, right) = halves(segments, length);
    merge_subtrees_root(&left, &right, Mode::Hash)
}

fn subtree(segments: &[ChainingValue], length: u64) -> ChainingValue {
    if let [only] = segments {
        return *only;
    }
    let (left, right) = halves(segments, length);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

fn halves(segments: &[ChainingValue], length: u64) -> (ChainingValue, ChainingValue) {
    let left_length = left_subtree_len(length);
    let (left, right) = segments.split_at((left_length / SEGMENT) as usize);
    (subtree(left, left_length), subtree(right, length - left_length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_segments_have_the_hash_of_the_whole() {
        let segment_length = SEGMENT as usize;
        for length in [1, 2, 3, 5, 8]
            .into_iter()
            .flat_map(|n| [n * segment_length + 1, (n + 1) * segment_length])
        {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let values: Vec<_> = bytes
                .chunks(segment_length)
                .enumerate()
                .map(|(n, chunk)| segment(chunk, n as u64 * SEGMENT))
                .collect();

            let joined = join(&values, length as u64);

            assert_eq!(joined, blake3::hash(&bytes), "{length} bytes");
        }
    }
}
