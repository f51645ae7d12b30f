//! A layer: the files of Debian packages, of a Hugging Face cache or of a folder, as one tar with
//! gzip around it, streamed and the same on every machine (packages in the order of their names,
//! their own time stamps, no owner's names).

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_lc_rs::digest::{Context, SHA256};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use sha1::{Digest as _, Sha1};
use tar::{Archive, Builder, EntryType, Header};
use types::{Descriptor, Digest, media_type};

use super::blobs::{TestBlobWriter, TestBlobs, finish_digest, sha256_digest};
use super::debian::DebianPackage;
use super::recipes::{LayerFile, LayerFileContent};
use crate::hub::{MINILM, TestHub};
use crate::{folder_files, tools};

/// 2024-01-01T00:00:00Z, for what has no time of its own.
pub(crate) const EPOCH: u64 = 1_704_067_200;
/// gzip's default, as most builders use it.
const LEVEL: Compression = Compression::new(6);
/// What the compressor gets at once.
const BLOCK: usize = 256 << 10;
/// `/bin` and its like are links in a merged system (Debian 12), as in Debian's own images.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// What slim images leave out; of documents they keep the copyright.
const LEFT_OUT: [&str; 5] = [
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/lintian/",
    "usr/share/doc/",
];

/// A finished layer.
#[derive(Debug, Clone)]
pub(crate) struct BuiltLayer {
    /// The compressed blob.
    pub(crate) blob: Descriptor,
    /// The sha256 of the tar inside.
    pub(crate) diff_id: Digest,
}

/// The position of a layer in its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerPosition {
    /// The first one; it brings the links of a merged system.
    Base,
    /// A later one.
    Above,
}

/// A layer of Debian packages.
pub(crate) fn build_package_layer(
    blobs: &TestBlobs,
    name: &str,
    packages: &[DebianPackage],
    place: LayerPosition,
) -> BuiltLayer {
    let mut layer = LayerWriter::new(blobs, name);
    if place == LayerPosition::Base {
        for folder in MERGED {
            layer.add_directory(&format!("usr/{folder}"));
            layer.add_link(folder, &format!("usr/{folder}"));
        }
    }
    for package in packages {
        layer.add_package(package);
    }
    layer.finish()
}

/// A layer with files of a model in the form that `hf download` leaves below
/// `/app/.cache/huggingface`: `refs/`, `blobs/` named by etag, and `snapshots/` with links to them.
pub(crate) fn build_hub_cache_layer(
    blobs: &TestBlobs,
    name: &str,
    folder: &Path,
    with: &[PathBuf],
) -> BuiltLayer {
    let mut layer = LayerWriter::new(blobs, name);
    let commit = TestHub::commit_of(MINILM, folder);
    let repo = format!("app/.cache/huggingface/hub/models--{}", MINILM.replace('/', "--"));
    layer.add_file(&format!("{repo}/refs/main"), commit.as_bytes());
    for path in with {
        let bytes = std::fs::read(folder.join(path)).expect("a model's file can be read");
        let etag = file_etag(path, &bytes);
        layer.add_file(&format!("{repo}/blobs/{etag}"), &bytes);
        let up = "../".repeat(path.components().count() + 1);
        let snapshot = format!("{repo}/snapshots/{commit}/{}", path.display());
        layer.add_parents(&snapshot);
        layer.add_link(&snapshot, &format!("{up}blobs/{etag}"));
    }
    layer.finish()
}

/// A layer with one small file.
pub(crate) fn build_text_layer(blobs: &TestBlobs, name: &str, text: &str) -> BuiltLayer {
    let mut layer = LayerWriter::new(blobs, name);
    // Named by its content: a layer on another adds a file and hides none.
    layer.add_file(
        &format!("etc/testkit/{}", sha256_digest(text.as_bytes()).short_hex()),
        text.as_bytes(),
    );
    layer.finish()
}

/// A layer with the files of a folder, found in the image below `place`; programs stay programs.
pub(crate) fn build_folder_layer(
    blobs: &TestBlobs,
    name: &str,
    folder: &Path,
    place: &str,
) -> BuiltLayer {
    let mut layer = LayerWriter::new(blobs, name);
    for path in folder_files::list_files(folder) {
        let from = folder.join(&path);
        let to = format!("{place}/{}", path.display());
        let metadata = from.symlink_metadata().expect("a file that was just found is there");
        if metadata.is_symlink() {
            let target = from.read_link().expect("a link can be read");
            layer.add_parents(&to);
            layer.add_link(&to, &target.to_string_lossy());
        } else {
            let bytes = std::fs::read(&from).expect("a file can be read");
            let is_program = metadata.permissions().mode() & 0o100 != 0;
            layer.add_file_with_mode(&to, &bytes, if is_program { 0o755 } else { 0o644 });
        }
    }
    layer.finish()
}

/// A layer with files of this repository.
pub(crate) fn build_file_layer(blobs: &TestBlobs, name: &str, files: &[LayerFile]) -> BuiltLayer {
    let mut layer = LayerWriter::new(blobs, name);
    for file in files {
        match file.content {
            LayerFileContent::Plain(text) => layer.add_file(file.path, text.as_bytes()),
            LayerFileContent::Script(text) => {
                layer.add_file_with_mode(file.path, text.as_bytes(), 0o755);
            }
            LayerFileContent::Link(target) => {
                layer.add_parents(file.path);
                layer.add_link(file.path, target);
            }
            LayerFileContent::Shared => layer.add_directory_with_mode(file.path, 0o1777),
        }
    }
    layer.finish()
}

type LayerEncoder = GzEncoder<TestBlobWriter>;

/// The tar while it is written.
struct LayerWriter {
    tar: Builder<HashingTee>,
    seen: HashSet<PathBuf>,
}

/// Hashes the tar on its way into the compressor, which gets it in blocks of one size: what zlib-rs
/// makes of bytes depends on the pieces that they come in, and pieces from a pipe are chance.
struct HashingTee {
    gzip: LayerEncoder,
    hash: Context,
    block: Vec<u8>,
}

impl LayerWriter {
    fn new(blobs: &TestBlobs, name: &str) -> Self {
        let gzip = GzBuilder::new().mtime(0).write(blobs.writer(name), LEVEL);
        let tee =
            HashingTee { gzip, hash: Context::new(&SHA256), block: Vec::with_capacity(BLOCK) };
        Self { tar: Builder::new(tee), seen: HashSet::new() }
    }

    fn add_package(&mut self, package: &DebianPackage) {
        let mut child = tools::tool_command("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&package.file)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dpkg-deb can be started");
        let output = child.stdout.take().expect("its output is a pipe");
        let mut archive = Archive::new(io::BufReader::with_capacity(1 << 18, output));
        for entry in archive.entries().expect("a package has a tar") {
            self.add_entry(&mut entry.expect("a package's tar is whole"));
        }
        let status = child.wait().expect("a child can be waited for");
        assert!(status.success(), "dpkg-deb failed on {}", package.file.display());
        // Where scanners look for packages in images without dpkg's own database.
        let control =
            tools::run_command(tools::tool_command("dpkg-deb").arg("-f").arg(&package.file));
        self.add_file(&format!("var/lib/dpkg/status.d/{}", package.name), control.as_bytes());
    }

    fn add_entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) {
        let path = merged_path(&entry.path().expect("a package's paths are text"));
        if path.as_os_str().is_empty() || is_left_out(&path) || !self.seen.insert(path.clone()) {
            return;
        }
        let mut header = entry.header().clone();
        header.set_username("").expect("an empty name fits");
        header.set_groupname("").expect("an empty name fits");
        let kind = header.entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name().ok().flatten().expect("a link has a target");
            let target =
                if kind.is_hard_link() { merged_path(&target) } else { target.into_owned() };
            self.tar.append_link(&mut header, &path, &target)
        } else {
            self.tar.append_data(&mut header, &path, entry)
        }
        .expect("a layer can be written");
    }

    fn add_file(&mut self, path: &str, bytes: &[u8]) {
        self.add_file_with_mode(path, bytes, 0o644);
    }

    fn add_file_with_mode(&mut self, path: &str, bytes: &[u8], mode: u32) {
        self.add_parents(path);
        if !self.seen.insert(PathBuf::from(path)) {
            return;
        }
        let mut header = build_header(EntryType::Regular, mode);
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes).expect("a layer can be written");
    }

    fn add_link(&mut self, path: &str, target: &str) {
        self.seen.insert(PathBuf::from(path));
        let mut header = build_header(EntryType::Symlink, 0o777);
        self.tar.append_link(&mut header, path, target).expect("a layer can be written");
    }

    fn add_directory(&mut self, path: &str) {
        self.add_directory_with_mode(path, 0o755);
    }

    fn add_directory_with_mode(&mut self, path: &str, mode: u32) {
        self.add_parents(path);
        if self.seen.insert(PathBuf::from(path)) {
            let mut header = build_header(EntryType::Directory, mode);
            let path = format!("{path}/");
            self.tar.append_data(&mut header, path, io::empty()).expect("a layer can be written");
        }
    }

    fn add_parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.add_directory(parent);
        }
    }

    fn finish(self) -> BuiltLayer {
        let mut tee = self.tar.into_inner().expect("a layer can be written");
        tee.write_pending().expect("a layer can be written");
        let blob =
            tee.gzip.finish().expect("a layer can be written").finish(media_type::OCI_LAYER_GZIP);
        BuiltLayer { blob, diff_id: finish_digest(tee.hash) }
    }
}

impl HashingTee {
    fn write_pending(&mut self) -> io::Result<()> {
        self.hash.update(&self.block);
        self.gzip.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

impl Write for HashingTee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.write_pending()?;
        }
        Ok(taken)
    }

    /// Nothing is passed on before a block is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn build_header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(EPOCH);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// A path without its leading `./`, and below `usr` where the merged system has it.
fn merged_path(path: &Path) -> PathBuf {
    let path = path.strip_prefix(".").or_else(|_| path.strip_prefix("/")).unwrap_or(path);
    let first = path.components().next().map(|first| first.as_os_str().to_owned());
    match first {
        Some(first) if MERGED.iter().any(|folder| *folder == first) => Path::new("usr").join(path),
        _ => path.to_path_buf(),
    }
}

fn is_left_out(path: &Path) -> bool {
    let text = path.to_string_lossy();
    // Character sets of the last century: a fifth of libc6.
    let is_gconv = text.contains("/gconv/");
    is_gconv
        || (LEFT_OUT.iter().any(|start| text.starts_with(start)) && !text.ends_with("/copyright"))
}

/// The files of the model that go into a cache layer, sorted.
pub(crate) fn model_files(folder: &Path, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    folder_files::list_files(folder).into_iter().filter(|file| keep(file)).collect()
}

/// A file's name among a cache's blobs: the Hub's `ETag`, sha256 for LFS files, git's id for
/// others.
fn file_etag(path: &Path, bytes: &[u8]) -> String {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return sha256_digest(bytes).hex();
    }
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    tools::encode_hex(&hash.finalize())
}
