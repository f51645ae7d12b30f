//! The BLAKE3 hash of one long entry, computed by several threads: each hashes segments, the last
//! one joins them.
//!
//! BLAKE3 is a binary tree over the data. A segment whose length is a power of two, at an offset
//! that is a multiple of that length, is exactly one subtree (see the documentation of
//! `blake3::hazmat`). For example, with segments of 1 MiB an entry of 3.5 MiB is
//!
//! ```text
//!            root
//!          /      \
//!      left        right        left_subtree_len(3.5 MiB) = 2 MiB, so the tree is split there
//!     /    \      /     \
//!    s0    s1    s2     s3      s3 has the last 0.5 MiB
//! ```

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

/// The bytes that one thread hashes at once. A power of two, as BLAKE3's tree requires; large
/// enough for a disk to read in long runs, small enough that a few of them take little memory.
pub(crate) const SEGMENT: u64 = 1 << 20;

/// The chaining value of one segment. `offset` is where it begins in its entry, a multiple of
/// [`SEGMENT`]. Only for entries longer than one segment: a single one would be the root, which is
/// finalized differently.
pub(crate) fn hash_segment(bytes: &[u8], offset: u64) -> ChainingValue {
    Hasher::new().set_input_offset(offset).update(bytes).finalize_non_root()
}

/// The hash of an entry of `length` bytes from the chaining values of all its segments, in order.
/// `length` must be more than [`SEGMENT`].
pub(crate) fn join_segments(segments: &[ChainingValue], length: u64) -> blake3::Hash {
    let (left, right) = join_halves(segments, length);
    merge_subtrees_root(&left, &right, Mode::Hash)
}

/// The chaining value of a subtree that is not the root.
fn join_subtree(segments: &[ChainingValue], length: u64) -> ChainingValue {
    if let [only] = segments {
        return *only;
    }
    let (left, right) = join_halves(segments, length);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// The chaining values of the two subtrees directly below a node.
fn join_halves(segments: &[ChainingValue], length: u64) -> (ChainingValue, ChainingValue) {
    let left_length = left_subtree_len(length);
    let (left, right) = segments.split_at((left_length / SEGMENT) as usize);
    (join_subtree(left, left_length), join_subtree(right, length - left_length))
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
                .map(|(n, chunk)| hash_segment(chunk, n as u64 * SEGMENT))
                .collect();

            let joined = join_segments(&values, length as u64);

            assert_eq!(joined, blake3::hash(&bytes), "{length} bytes");
        }
    }
}
