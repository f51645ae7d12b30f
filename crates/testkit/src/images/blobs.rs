//! A folder of blobs by their sha256, as an OCI layout has it: what all images of a set share.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use types::{Descriptor, Digest};

/// Large enough that a write call costs nothing beside the bytes.
const BUFFER: usize = 1 << 20;

/// The folder `blobs/` of a layout.
#[derive(Debug, Clone)]
pub(crate) struct TestBlobs {
    folder: PathBuf,
}

/// A blob while it is written: hashed as the bytes flow.
pub(crate) struct TestBlobWriter {
    file: BufWriter<File>,
    path: PathBuf,
    folder: PathBuf,
    hash: Context,
    size: u64,
}

impl TestBlobs {
    /// The blobs of a layout, its folder made.
    pub(crate) fn new(layout: &Path) -> Self {
        let folder = layout.join("blobs/sha256");
        fs::create_dir_all(&folder).expect("a blob folder can be made");
        Self { folder }
    }

    /// A small blob at once.
    pub(crate) fn put_bytes(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = sha256_digest(bytes);
        fs::write(self.path(&digest), bytes).expect("a blob can be written");
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    /// A document; its keys stay in the order given.
    pub(crate) fn put_json(&self, media_type: &str, document: &serde_json::Value) -> Descriptor {
        self.put_bytes(media_type, document.to_string().as_bytes())
    }

    /// A large blob; `name` is unique among those being written.
    pub(crate) fn writer(&self, name: &str) -> TestBlobWriter {
        let path = self.folder.join(format!(".{name}"));
        let file = File::create(&path).expect("a blob can be made");
        TestBlobWriter {
            file: BufWriter::with_capacity(BUFFER, file),
            path,
            folder: self.folder.clone(),
            hash: Context::new(&SHA256),
            size: 0,
        }
    }

    /// Where a blob is.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }
}

impl TestBlobWriter {
    /// Ends the blob: it gets its name.
    pub(crate) fn finish(mut self, media_type: &str) -> Descriptor {
        self.file.flush().expect("a blob can be written");
        let digest = finish_digest(self.hash);
        fs::rename(&self.path, self.folder.join(digest.hex())).expect("a blob can be named");
        Descriptor::new(media_type, digest, self.size)
    }
}

impl Write for TestBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The digest of bytes at hand.
pub(crate) fn sha256_digest(bytes: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(bytes);
    finish_digest(hash)
}

/// The digest of a hash that has seen all.
pub(crate) fn finish_digest(hash: Context) -> Digest {
    Digest::Sha256(hash.finish().as_ref().try_into().expect("a sha256 has 32 bytes"))
}
