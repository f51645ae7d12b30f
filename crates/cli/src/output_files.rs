//! Files that a command writes for the user: they are checked before any work is done, and a file that
//! Gantry did not write is not overwritten.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::error::{CommandError, Result};

/// How much of the beginning and of the end of a file is read to recognise it. A receipt of 10,000 images
/// takes 40 MB, but begins as every other one does.
const LOOKED_AT: u64 = 64 << 10;

/// What a command writes into a file of the user. A file of another kind is not its own, whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// The overlay of `relocate`.
    Overlay,
    /// The patches of `relocate --offline`.
    Patches,
    /// The report of `relocate`.
    RelocationReport,
    /// The report of `check`.
    CheckReport,
    /// The report of `diff`.
    ContentReport,
    /// The report of `check`, as JUnit XML.
    JunitReport,
    /// The report of `audit`.
    AuditReport,
    /// The receipt of `load`.
    Receipt,
    /// Manifests of policies and of the webhook.
    Manifests,
    /// Configuration for the nodes of a cluster.
    NodeConfiguration,
    /// A manual page.
    ManualPage,
    /// The file in which `post-render` leaves its error.
    ErrorFile,
}

impl OutputKind {
    /// What stands in one of its first or last lines, in lower case and without backquotes. All words of an
    /// entry are in one line: reports have the time between two of them.
    fn marks(self) -> &'static [&'static [&'static str]] {
        const SIGNED: &[&str] = &["written ", "by gantry"];
        match self {
            Self::Overlay => &[&["# points the images of the chart at "]],
            Self::Patches => &[&["# changes that no value of the chart can make"]],
            Self::RelocationReport => &[&["verdict: **"], SIGNED],
            Self::JunitReport => &[&["<testsuites name=\"gantry check\""]],
            Self::CheckReport | Self::ContentReport | Self::AuditReport => &[SIGNED],
            Self::Manifests | Self::NodeConfiguration | Self::ManualPage => &[SIGNED],
            Self::Receipt => &[],
            // The whole text of an error begins with it; see `is_own_file`.
            Self::ErrorFile => &[],
        }
    }

    /// The keys with which it begins as a JSON document; empty where it is none.
    fn json_keys(self) -> &'static [&'static str] {
        match self {
            Self::Receipt => &["version", "target", "roots"],
            Self::RelocationReport => &["chart", "version", "site", "verdict"],
            Self::CheckReport => &["context", "server", "verdict", "counts"],
            Self::ContentReport => &["from", "to", "addedItems", "removedItems"],
            Self::AuditReport => &["version", "gantry", "context", "verdict"],
            _ => &[],
        }
    }
}

/// The option of every command that writes files.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct OverwriteArgs {
    /// Overwrite existing files that Gantry did not write.
    #[arg(long)]
    force: bool,
}

impl OverwriteArgs {
    /// Checks a file before any work is done: its folder exists and can be written to, and no file is
    /// there but one of this kind that Gantry wrote. `-` stands for standard output and is always right.
    pub(crate) fn check_file(self, path: &Path, kind: OutputKind) -> Result<()> {
        if path == Path::new("-") {
            return Ok(());
        }
        let shown = path.display();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(CommandError::usage_error(format!(
                "{shown}: the folder {} does not exist",
                folder.display()
            )));
        }
        require_writable(path, folder.unwrap_or(Path::new(".")))?;
        self.check_content(path, kind)
    }

    /// As [`OverwriteArgs::check_file`], for a file whose folders are created.
    pub(crate) fn check_file_in_new_folder(self, path: &Path, kind: OutputKind) -> Result<()> {
        check_folder(path.parent().unwrap_or(Path::new(".")))?;
        self.check_content(path, kind)
    }

    /// Refuses a folder, and a file that Gantry did not write.
    fn check_content(self, path: &Path, kind: OutputKind) -> Result<()> {
        let shown = path.display();
        if path.is_dir() {
            return Err(CommandError::usage_error(format!("{shown} is a folder"))
                .with_hint("give a file name"));
        }
        // A device such as /dev/stdout or a pipe has no content that could be lost.
        let is_at_risk = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
        if self.force || !is_at_risk || is_own_file(path, kind) {
            return Ok(());
        }
        Err(CommandError::usage_error(format!(
            "{shown} exists already, and Gantry did not write it"
        ))
        .with_hint("name another file, or overwrite it with --force"))
    }
}

/// Checks a folder that is written to or created: what exists of its path is a folder that can be written
/// to.
pub(crate) fn check_folder(folder: &Path) -> Result<()> {
    let existing = folder.ancestors().find(|path| path.exists());
    match existing.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) if !path.is_dir() => Err(CommandError::usage_error(format!(
            "{}: {} is not a folder",
            folder.display(),
            path.display()
        ))),
        path => require_writable(folder, path.unwrap_or(Path::new("."))),
    }
}

fn require_writable(path: &Path, folder: &Path) -> Result<()> {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).map_err(|cause| {
        CommandError::usage_error(format!("{} cannot be written: {cause}", path.display()))
            .with_hint("name a file in a folder that you may write to")
    })
}

/// Whether Gantry wrote a file of this kind, as far as its beginning and its end show.
fn is_own_file(path: &Path, kind: OutputKind) -> bool {
    let Ok((start, end)) = read_ends(path) else { return false };
    if start.trim_ascii_start().starts_with(b"{") {
        let (keys, found) = (kind.json_keys(), list_first_keys(&start));
        return !keys.is_empty() && keys.iter().all(|key| found.iter().any(|own| own == key));
    }
    if kind == OutputKind::ErrorFile {
        return start.starts_with(b"error: ");
    }
    let (start, end) = (String::from_utf8_lossy(&start), String::from_utf8_lossy(&end));
    let is_full = |line: &&str| !line.trim().is_empty();
    let first = start.lines().filter(is_full).take(5);
    let mut near_ends = first.chain(end.lines().rev().filter(is_full).take(20));
    near_ends.any(|line| {
        let line = line.to_lowercase().replace('`', "");
        kind.marks().iter().any(|words| words.iter().all(|word| line.contains(word)))
    })
}

/// The beginning and the end of a file; both are the whole of a short one.
fn read_ends(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut start, mut end) = (Vec::new(), Vec::new());
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.by_ref().take(LOOKED_AT).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(length.saturating_sub(LOOKED_AT)))?;
    file.take(LOOKED_AT).read_to_end(&mut end)?;
    Ok((start, end))
}

/// The keys of a JSON object whose text may be cut off, as far as they are there.
fn list_first_keys(start: &[u8]) -> Vec<String> {
    struct KeyVisitor<'a>(&'a mut Vec<String>);
    impl<'de> Visitor<'de> for KeyVisitor<'_> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key()? {
                self.0.push(key);
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let mut keys = Vec::new();
    // An error is the end of what was read.
    let _ = serde_json::Deserializer::from_slice(start).deserialize_map(KeyVisitor(&mut keys));
    keys
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn only_files_of_the_same_kind_that_gantry_wrote_are_overwritten() {
        use OutputKind as K;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let check = |content: &str, kind, force| {
            fs::write(&path, content).unwrap();
            OverwriteArgs { force }.check_file(&path, kind).map_err(|error| error.kind())
        };
        let receipt = |roots: usize| {
            let roots = vec![r#"{"name": "docker.io/library/nginx:1.25"}"#; roots].join(", ");
            format!(r#"{{"version": 1, "target": "x", "roots": [{roots}], "blobs": []}}"#)
        };
        let own = [
            (K::Manifests, "# Written by `gantry policy images`: only locked images\nkind: X\n".into()),
            (K::Overlay, "# Points the images of the chart at registry.internal.\nimage: {}\n".into()),
            (K::Patches, "# Changes that no value of the chart can make. Apply with: x\n".into()),
            (
                K::RelocationReport,
                "# web 1.0.0 to registry.internal\n\nVerdict: **proven**\n\n| image | at the site |\n".into(),
            ),
            (K::RelocationReport, r#"{"chart": "w", "version": "1", "site": "s", "verdict": "proven"}"#.into()),
            (K::AuditReport, "# Egress audit\n\nWritten 2026-11-30T12:53:30Z by gantry 0.1.0.\n".into()),
            (
                K::CheckReport,
                format!("<!doctype html>\n{}<footer>Written by gantry 0.1.0.</footer>\n</html>\n", "<p>all</p>\n".repeat(20_000)),
            ),
            (K::JunitReport, "<?xml version=\"1.0\"?>\n<testsuites name=\"gantry check\">\n".into()),
            (K::Receipt, receipt(0)),
            // Only its beginning is read.
            (K::Receipt, receipt(10_000)),
            (K::ErrorFile, "error: an image still points outside\n".into()),
            (K::ManualPage, ".\\\" Written by gantry man.\n".into()),
            (K::NodeConfiguration, "# Written by gantry: /etc/containerd. Restart it.\n".into()),
        ];
        for (kind, content) in &own {
            assert_eq!(check(content, *kind, false), Ok(()), "{kind:?}");
            assert_eq!(check("", *kind, false), Ok(()), "{kind:?}");
            for other in [K::Overlay, K::Patches, K::Receipt, K::ErrorFile, K::JunitReport] {
                if other != *kind {
                    assert_eq!(
                        check(content, other, false),
                        Err(ErrorKind::Usage),
                        "{kind:?} {other:?}"
                    );
                }
            }
        }
        for foreign in [
            "image: {tag: mine}\n",
            "# values for gantry\nimage: {registry: ghcr.io/gantry}\n",
            r#"{"version": 1, "roots": []}"#,
            "{",
            "\u{0}\u{1}",
        ] {
            for (kind, _) in &own {
                assert_eq!(check(foreign, *kind, false), Err(ErrorKind::Usage), "{foreign}");
                assert_eq!(check(foreign, *kind, true), Ok(()), "{foreign}");
            }
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "mine").unwrap();
        let args = OverwriteArgs::default();
        let within = |path: &str| folder.path().join(path);
        assert!(args.check_file(Path::new("-"), OutputKind::Overlay).is_ok());
        assert!(args.check_file(&within("new"), OutputKind::Overlay).is_ok());
        assert!(args.check_file(&within("none/new"), OutputKind::Overlay).is_err());
        assert!(args.check_file(folder.path(), OutputKind::Overlay).is_err());
        assert!(
            args.check_file_in_new_folder(&within("none/two/new"), OutputKind::Overlay).is_ok()
        );
        assert!(args.check_file_in_new_folder(&within("file/new"), OutputKind::Overlay).is_err());
        assert!(args.check_file_in_new_folder(&within("file"), OutputKind::Overlay).is_err());
    }
}
