//! Reads tar archives from untrusted sources: image archives, image layers and chart archives.
//! Paths are normalized and never used as paths on this machine, and a header cannot make the
//! reader allocate more than [`MAX_HEADERS`].

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use tar::{EntryType, Header};
use types::Cause;

use crate::{Error, Result};

/// Limit for the headers of one member (long names, pax records), which the `tar` crate reads into
/// memory whatever length they announce. Linux has paths of 4 KiB; pax records of real images stay
/// below 64 KiB.
const MAX_HEADERS: u64 = 1 << 20;
/// Limit for the members of one archive. The largest known images have half a million files.
const MAX_MEMBERS: u64 = 8 << 20;
/// Bytes of one read when a member's content is skipped in a stream.
const SKIP: usize = 64 << 10;

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarMember {
    /// Its normalized path: no leading `/`, no `.` and `..`; empty for the root.
    pub(crate) path: String,
    /// Its type.
    pub(crate) kind: TarMemberKind,
    /// Length of its content in bytes.
    pub(crate) size: u64,
    /// Offset of its content in the archive.
    pub(crate) offset: u64,
}

/// The type of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TarMemberKind {
    File,
    Folder,
    /// The target, unchanged.
    Symlink(String),
    /// The target, normalized like a path.
    Hardlink(String),
    /// A device or a pipe; layers rarely have one, and no reader here needs it.
    Other,
}

/// Whether the walk continues after a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkControl {
    Continue,
    Stop,
}

/// Calls `visit` for every member of a stream, in order, with its content. `name` is the archive's
/// name in errors.
pub(crate) fn walk_tar(
    name: &str,
    reader: impl Read,
    mut visit: impl FnMut(TarMember, &mut dyn Read) -> Result<WalkControl>,
) -> Result<()> {
    let allowance = ReadAllowance::default();
    let mut archive =
        tar::Archive::new(LimitedReader { inner: reader, allowance: allowance.clone() });
    // Two empty blocks end a tar (POSIX.1, pax); what follows them is not read as members.
    archive.set_ignore_zeros(false);
    let damaged = |cause: io::Error| damaged_archive(name, cause);
    let mut entries = archive.entries().map_err(&damaged)?;
    for _ in 0..MAX_MEMBERS {
        // `next` reads the headers: bounded. The content, which `visit` reads, is a stream.
        allowance.grant(MAX_HEADERS);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(&damaged)?;
        allowance.grant(u64::MAX);
        let member = read_member(name, &entry)?;
        if visit(member, &mut entry)? == WalkControl::Stop {
            return Ok(());
        }
        // `next` would skip the rest itself, but within the allowance of the headers.
        let mut buffer = vec![0; SKIP];
        while entry.read(&mut buffer).map_err(&damaged)? > 0 {}
    }
    Err(too_many_members(name))
}

/// Calls `visit` for every member of a file, without reading the contents.
pub(crate) fn index_tar(
    name: &str,
    reader: impl Read + Seek,
    mut visit: impl FnMut(TarMember) -> Result<()>,
) -> Result<()> {
    let allowance = ReadAllowance::default();
    let mut archive =
        tar::Archive::new(LimitedReader { inner: reader, allowance: allowance.clone() });
    let damaged = |cause: io::Error| damaged_archive(name, cause);
    let mut entries = archive.entries_with_seek().map_err(&damaged)?;
    for _ in 0..MAX_MEMBERS {
        allowance.grant(MAX_HEADERS);
        let Some(entry) = entries.next() else { return Ok(()) };
        let entry = entry.map_err(&damaged)?;
        visit(read_member(name, &entry)?)?;
    }
    Err(too_many_members(name))
}

/// Normalizes a path: removes empty segments and `.`, and resolves `..`, which never goes above the
/// root. `../a/./b` becomes `a/b`.
pub(crate) fn normalize_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    segments.join("/")
}

fn read_member<R: Read>(name: &str, entry: &tar::Entry<'_, R>) -> Result<TarMember> {
    // Names need not be UTF-8. A replaced character cannot match any name that is searched for.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let link = || {
        entry.link_name_bytes().map(|bytes| text(&bytes)).ok_or_else(|| Error::Damaged {
            what: name.to_owned(),
            reason: format!("{} is a link without a target", text(&entry.path_bytes())).into(),
        })
    };
    let kind = match member_type(entry.header()) {
        // Contiguous files are regular files to everything but some old file systems.
        EntryType::Regular | EntryType::Continuous => TarMemberKind::File,
        EntryType::Directory => TarMemberKind::Folder,
        EntryType::Symlink => TarMemberKind::Symlink(link()?),
        EntryType::Link => TarMemberKind::Hardlink(normalize_path(&link()?)),
        EntryType::GNUSparse => {
            return Err(Error::Damaged {
                what: name.to_owned(),
                reason: format!(
                    "{} is a sparse file, which is not supported in images",
                    text(&entry.path_bytes())
                )
                .into(),
            });
        }
        _ => TarMemberKind::Other,
    };
    Ok(TarMember {
        path: normalize_path(&text(&entry.path_bytes())),
        kind,
        size: entry.size(),
        offset: entry.raw_file_position(),
    })
}

/// The type of a member. In archives older than the type field (before POSIX.1-1988) a folder is
/// marked by a slash at the end of its name.
fn member_type(header: &Header) -> EntryType {
    let kind = header.entry_type();
    if kind == EntryType::Regular && header.path_bytes().ends_with(b"/") {
        return EntryType::Directory;
    }
    kind
}

fn damaged_archive(name: &str, cause: io::Error) -> Error {
    // A file of another kind has no header: the library quotes the fields that it found in its place,
    // which is the beginning of the file (`… when getting cksum for root:x:0:0…`).
    let quotes_content = cause.to_string().contains(" when getting ");
    let reason = match quotes_content {
        true => Cause::from("it is not a tar archive"),
        false => Cause::about("it is not a complete tar archive", cause),
    };
    Error::Damaged { what: name.to_owned(), reason }
}

fn too_many_members(name: &str) -> Error {
    Error::Damaged {
        what: name.to_owned(),
        reason: format!("it has more than {MAX_MEMBERS} members").into(),
    }
}

/// How many bytes may be read before the next grant. Shared between the reader, which the `tar`
/// library owns, and the loop that grants; a walk stays on one thread.
#[derive(Clone, Default)]
struct ReadAllowance(Rc<Cell<u64>>);

impl ReadAllowance {
    fn grant(&self, bytes: u64) {
        self.0.set(bytes);
    }
}

/// A reader that fails once its allowance is used up.
struct LimitedReader<R> {
    inner: R,
    allowance: ReadAllowance,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.allowance.0.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "the headers of a member exceed {MAX_HEADERS} bytes"
            )));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        // The maximum means without limit: contents may have any length.
        if left != u64::MAX {
            self.allowance.0.set(left - read as u64);
        }
        Ok(read)
    }
}

impl<R: Seek> Seek for LimitedReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;

    fn build_archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn paths_of_an_archive_never_leave_its_root() {
        for (path, expected) in [
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            (".", ""),
        ] {
            assert_eq!(normalize_path(path), expected);
        }
        let bytes = build_archive(&[("../../x", EntryType::Regular, b"hello")]);
        let mut seen = vec![];
        walk_tar("t", bytes.as_slice(), |member, content| {
            let mut text = String::new();
            content.read_to_string(&mut text).unwrap();
            seen.push((member.path, text));
            Ok(WalkControl::Continue)
        })
        .unwrap();
        assert_eq!(seen, [("x".to_owned(), "hello".to_owned())]);
    }

    #[test]
    fn a_header_that_wants_gigabytes_is_refused() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(b'a'));
        let error = walk_tar("evil.tar", endless, |_, _| Ok(WalkControl::Continue))
            .unwrap_err()
            .to_string();
        assert!(error.contains("evil.tar") && error.contains("headers"), "{error}");
    }

    #[test]
    fn an_index_tells_where_each_content_is() {
        let bytes = build_archive(&[
            ("a", EntryType::Regular, &[1; 700]),
            ("b", EntryType::Regular, b"here"),
        ]);
        let mut found = vec![];
        index_tar("t", Cursor::new(&bytes), |member| {
            found.push(member);
            Ok(())
        })
        .unwrap();
        let b = &found[1];
        assert_eq!(&bytes[b.offset as usize..(b.offset + b.size) as usize], b"here");
    }

    #[test]
    fn an_archive_that_was_cut_is_damaged() {
        let bytes = build_archive(&[("a", EntryType::Regular, &[1; 7000])]);
        let error =
            walk_tar("cut.tar", &bytes[..3000], |_, _| Ok(WalkControl::Continue)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_archive_or_an_error(
            mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096),
            at in 0_usize..2048,
            value in proptest::prelude::any::<u8>(),
        ) {
            let _ = walk_tar("t", bytes.as_slice(), |_, _| Ok(WalkControl::Continue));
            // And a valid archive with one byte changed.
            bytes.truncate(600);
            let mut whole = build_archive(&[("a/b", EntryType::Regular, &bytes)]);
            // An archive of an empty file is shorter than 2048 bytes.
            let at = at % whole.len();
            whole[at] = value;
            for path in [walk_paths(&whole), index_paths(&whole)].into_iter().flatten() {
                let leaves = path.split('/').any(|segment| matches!(segment, ".." | "."));
                proptest::prop_assert!(!leaves && !path.starts_with('/'), "{path}");
            }
        }
    }

    fn walk_paths(bytes: &[u8]) -> Vec<String> {
        let mut paths = vec![];
        let _ = walk_tar("t", bytes, |member, _| {
            paths.push(member.path);
            Ok(WalkControl::Continue)
        });
        paths
    }

    fn index_paths(bytes: &[u8]) -> Vec<String> {
        let mut paths = vec![];
        let _ = index_tar("t", Cursor::new(bytes), |member| {
            paths.push(member.path);
            Ok(())
        });
        paths
    }
}
