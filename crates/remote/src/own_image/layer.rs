//! Writes the single layer of Gantry's own image: a gzipped tar, streamed into the store. It
//! contains no times, owners or file order of this machine, so the same binary gives the same
//! layer.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};

use flate2::{Compression, GzBuilder, read::GzEncoder};
use store::Store;
use store::hash::DigestHasher;
use store::progress::Progress;
use tar::{EntryType, Header};
use types::{Descriptor, Digest, media_type};

use super::binary::GantryBinary;
use crate::{Error, Result};

/// gzip's default level, which most image builders use.
const LEVEL: Compression = Compression::new(6);
/// "Unknown" in the gzip header (RFC 1952, section 2.3.1), so that the layer does not depend on the
/// system that built it.
const UNKNOWN_SYSTEM: u8 = 255;
/// A tar consists of blocks of 512 bytes, and ends with two that are empty (POSIX.1, pax).
const BLOCK: u64 = 512;
/// Names for the two users that the image knows; any other user ID works without a name.
const PASSWD: &str =
    "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// `hostAliases` of a pod are in /etc/hosts and must win over DNS; without this file the order
/// depends on the version of libc.
const NSSWITCH: &str = "hosts: files dns\n";

/// A finished layer.
pub(super) struct OwnImageLayer {
    pub(super) blob: Descriptor,
    /// The sha256 of the uncompressed tar, which the config lists.
    pub(super) diff_id: Digest,
}

/// Writes the layer to the store.
pub(super) fn write_layer(
    binary: &GantryBinary,
    store: &Store,
    progress: &dyn Progress,
) -> Result<OwnImageLayer> {
    let shown = binary.path.display().to_string();
    let failed = |cause| Error::Read { what: shown.clone(), cause };
    let head = build_tar_head(binary.size).map_err(failed)?;
    let file = File::open(&binary.path).map_err(failed)?;
    // Limited to the length in the tar's header: a file that grows meanwhile must not shift the
    // rest.
    let file = BinaryReader { inner: file.take(binary.size), left: binary.size, progress };
    let end = vec![0; (block_padding(binary.size) + 2 * BLOCK) as usize];

    let hash = RefCell::new(DigestHasher::new_sha256());
    let tar =
        DiffIdReader { inner: head.as_slice().chain(file).chain(end.as_slice()), hash: &hash };
    let layer: GzEncoder<_> = GzBuilder::new()
        .mtime(0)
        .operating_system(UNKNOWN_SYSTEM)
        .read(io::BufReader::new(tar), LEVEL);
    let (digest, size) = store.add_reader(layer)?;

    let diff_id = hash.into_inner().finish();
    Ok(OwnImageLayer { blob: Descriptor::new(media_type::OCI_LAYER_GZIP, digest, size), diff_id })
}

/// Builds the tar up to the binary's content: the binary is the last member, so its content can be
/// streamed.
fn build_tar_head(size: u64) -> io::Result<Vec<u8>> {
    let mut tar = Vec::new();
    let mut put = |path: &str, mode: u32, kind: EntryType, size: u64, content: &str| {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content.as_bytes());
        let padding = block_padding(content.len() as u64) as usize;
        tar.resize(tar.len() + padding, 0);
        io::Result::Ok(())
    };
    put("etc/", 0o755, EntryType::Directory, 0, "")?;
    for (path, content) in
        [("etc/group", GROUP), ("etc/nsswitch.conf", NSSWITCH), ("etc/passwd", PASSWD)]
    {
        put(path, 0o644, EntryType::Regular, content.len() as u64, content)?;
    }
    put("tmp/", 0o1777, EntryType::Directory, 0, "")?;
    put("usr/", 0o755, EntryType::Directory, 0, "")?;
    put("usr/bin/", 0o755, EntryType::Directory, 0, "")?;
    put("usr/bin/gantry", 0o755, EntryType::Regular, size, "")?;
    Ok(tar)
}

/// Bytes of padding after a content of this length, up to the next full block.
fn block_padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// Reads the binary into the tar and reports progress. Fails when the file became shorter after its
/// header was written, since the tar would be invalid.
struct BinaryReader<'a, R> {
    inner: R,
    left: u64,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for BinaryReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other(
                "the binary became shorter while it was read; run the command again",
            ));
        }
        self.left -= read as u64;
        self.progress.advance_bytes(read as u64);
        Ok(read)
    }
}

/// Hashes the tar while it is compressed.
struct DiffIdReader<'a, R> {
    inner: R,
    hash: &'a RefCell<DigestHasher>,
}

impl<R: Read> Read for DiffIdReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.borrow_mut().update(&buffer[..read]);
        Ok(read)
    }
}
