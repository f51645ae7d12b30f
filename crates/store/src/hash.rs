//! The hashes that name content: those of digests for blobs, git's sha1 for files of a Hub repository.
//!
//! Both are fed with bytes while those are transferred; nothing here reads a file on its own.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use sha1::{Digest as _, Sha1};
use types::{Digest, DigestAlgorithm, GitId};

/// A digest that is computed from content which is fed piece by piece. Uses the processor's SHA
/// instructions where it has them.
#[derive(Clone)]
pub struct DigestHasher {
    algorithm: DigestAlgorithm,
    context: Context,
}

impl DigestHasher {
    /// The hash of nothing yet.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        let context = Context::new(match algorithm {
            DigestAlgorithm::Sha256 => &SHA256,
            DigestAlgorithm::Sha512 => &SHA512,
        });
        Self { algorithm, context }
    }

    /// A hasher for content that is named here first: by its sha256.
    pub fn new_sha256() -> Self {
        Self::new(DigestAlgorithm::Sha256)
    }

    /// A hasher of the algorithm of a digest that content should have.
    pub fn for_digest(expected: &Digest) -> Self {
        Self::new(expected.algorithm())
    }

    /// Adds more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> Digest {
        let hash = self.context.finish();
        match self.algorithm {
            DigestAlgorithm::Sha256 => Digest::Sha256(copy_hash(hash.as_ref())),
            DigestAlgorithm::Sha512 => Digest::Sha512(copy_hash(hash.as_ref())),
        }
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.algorithm.fmt(f)
    }
}

/// The digest of bytes that are in memory.
pub fn compute_digest(algorithm: DigestAlgorithm, bytes: &[u8]) -> Digest {
    let mut hash = DigestHasher::new(algorithm);
    hash.update(bytes);
    hash.finish()
}

/// The sha256 of bytes that are in memory: the digest of content that Gantry itself makes.
pub fn sha256(bytes: &[u8]) -> Digest {
    compute_digest(DigestAlgorithm::Sha256, bytes)
}

/// Whether bytes that are in memory have the digest.
pub fn has_digest(bytes: &[u8], digest: &Digest) -> bool {
    compute_digest(digest.algorithm(), bytes) == *digest
}

/// The hash as an array: the library gives a slice of the algorithm's length.
fn copy_hash<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(hash);
    bytes
}

/// Git's id of a file, fed piece by piece: `sha1("blob " + length + "\0" + bytes)` (git-hash-object(1)).
/// The Hub names every file that is not in LFS by it.
#[derive(Clone)]
pub struct GitBlobHasher(Sha1);

impl GitBlobHasher {
    /// The id of a file of `length` bytes, which must all be added.
    pub fn new(length: u64) -> Self {
        let mut hash = Sha1::new();
        hash.update(format!("blob {length}\0"));
        Self(hash)
    }

    /// Adds more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id.
    pub fn finish(self) -> types::Result<GitId> {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(40);
        for byte in self.0.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_digests_of_abc_are_those_of_fips_180_4() {
        assert_eq!(
            sha256(b"abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            compute_digest(DigestAlgorithm::Sha512, b"abc").hex(),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    #[test]
    fn a_digest_does_not_depend_on_the_pieces() {
        for algorithm in DigestAlgorithm::ALL {
            let whole = compute_digest(algorithm, b"hello world");
            let mut hash = DigestHasher::for_digest(&whole);
            hash.update(b"hello ");
            hash.update(b"world");
            assert_eq!(hash.finish(), whole);
            assert!(has_digest(b"hello world", &whole) && !has_digest(b"hello worlD", &whole));
        }
    }

    #[test]
    fn the_id_of_a_file_is_that_of_git_hash_object() {
        // printf 'hello\n' | git hash-object --stdin
        let mut id = GitBlobHasher::new(6);
        id.update(b"hel");
        id.update(b"lo\n");
        assert_eq!(id.finish().unwrap().as_str(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
