//! The two hashes that name content: sha256 for blobs, git's sha1 for files of a Hub repository.
//!
//! Both are fed with bytes while those are transferred; nothing here reads a file on its own.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use sha1::{Digest as _, Sha1};
use types::{Digest, GitId};

/// A sha256 that is fed piece by piece. Uses the processor's SHA instructions where it has them.
#[derive(Clone)]
pub struct Sha256Hasher(Context);

impl Sha256Hasher {
    /// The hash of nothing yet.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest::from_bytes(bytes)
    }
}

impl fmt::Debug for Sha256Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256")
    }
}

impl Default for Sha256Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// The digest of bytes that are in memory.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = Sha256Hasher::new();
    hash.update(bytes);
    hash.finish()
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
    fn the_digest_of_abc_is_that_of_fips_180_4() {
        assert_eq!(
            sha256(b"abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
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
