//! Files that a command writes for the user: they are checked before any work is done, and a file that
//! Gantry did not write is not overwritten.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use types::ByteSize;

use crate::error::{CommandError, Result};

/// What files without the line "Written … by gantry …" have in their first or last lines, without
/// regard to case and without backquotes.
const MARKS: [&str; 4] = [
    // The first lines of an overlay, of patches, of the reports in Markdown, and of JUnit's XML.
    "# points the images of the chart at ",
    "# changes that no value of the chart can make",
    "verdict: **",
    "<testsuites name=\"gantry check\"",
];
/// Keys of the JSON documents that Gantry writes into files: a receipt, the reports of `relocate`,
/// `check` and `audit`. A document with all keys of a line is one of them.
const OWN_KEYS: [&[&str]; 3] = [
    &["version", "target", "roots", "blobs"],
    &["chart", "site", "verdict", "moved"],
    &["context", "server", "verdict", "findings"],
];
/// Nothing that Gantry writes for the user is longer: the receipt of 10,000 images takes 40 MB.
const LONGEST: ByteSize = ByteSize(256 << 20);

/// The option of every command that writes files.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct OverwriteArgs {
    /// Overwrite existing files that Gantry did not write.
    #[arg(long)]
    force: bool,
}

impl OverwriteArgs {
    /// Checks a file before any work is done: its folder exists and can be written to, and no file is
    /// there that Gantry did not write. `-` stands for standard output and is always right.
    pub(crate) fn check_file(self, path: &Path) -> Result<()> {
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
        self.check_content(path)
    }

    /// As [`OverwriteArgs::check_file`], for a file whose folders are created.
    pub(crate) fn check_file_in_new_folder(self, path: &Path) -> Result<()> {
        check_folder(path.parent().unwrap_or(Path::new(".")))?;
        self.check_content(path)
    }

    /// Refuses a folder, and a file that Gantry did not write.
    fn check_content(self, path: &Path) -> Result<()> {
        let shown = path.display();
        if path.is_dir() {
            return Err(CommandError::usage_error(format!("{shown} is a folder"))
                .with_hint("give a file name"));
        }
        // A device such as /dev/stdout or a pipe has no content that could be lost.
        let is_at_risk = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0);
        if self.force || !is_at_risk || is_own_file(path) {
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

/// Whether Gantry wrote a file, as far as its content shows.
fn is_own_file(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST.0).read_to_end(&mut bytes));
    if read.is_err() {
        return false;
    }
    if bytes.trim_ascii_start().starts_with(b"{") {
        let Ok(Value::Object(document)) = serde_json::from_slice(&bytes) else { return false };
        return OWN_KEYS.iter().any(|keys| keys.iter().all(|key| document.contains_key(*key)));
    }
    // The error file of a post-renderer.
    if bytes.starts_with(b"error: ") {
        return true;
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let near_ends = lines.iter().take(5).chain(lines.iter().rev().take(20));
    near_ends.into_iter().any(|line| {
        let line = line.to_lowercase().replace('`', "");
        // Reports have the time in between.
        let is_signed = line.contains("written ") && line.contains("by gantry");
        is_signed || MARKS.iter().any(|mark| line.contains(mark))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn only_files_that_gantry_wrote_are_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let check = |content: &str, force| {
            fs::write(&path, content).unwrap();
            OverwriteArgs { force }.check_file(&path).map_err(|error| error.kind())
        };
        for own in [
            "",
            "# Written by `gantry policy images`: only locked images\nkind: X\n",
            "# Points the images of the chart at registry.internal.\nimage: {}\n",
            "# web 1.0.0 to registry.internal\n\nVerdict: **proven**\n\n| image | at the site |\n",
            "# Egress audit\n\nWritten 2026-11-30T12:53:30Z by gantry 0.1.0.\n",
            "<!doctype html>\n<p>all</p>\n<footer>Written by gantry 0.1.0.</footer>\n</html>\n",
            r#"{"version": 1, "target": "x", "roots": [], "blobs": []}"#,
            "error: an image still points outside\n",
        ] {
            assert_eq!(check(own, false), Ok(()), "{own}");
        }
        for foreign in [
            "image: {tag: mine}\n",
            "# values for gantry\nimage: {registry: ghcr.io/gantry}\n",
            r#"{"version": 1, "roots": []}"#,
            "{",
            "\u{0}\u{1}",
        ] {
            assert_eq!(check(foreign, false), Err(ErrorKind::Usage), "{foreign}");
            assert_eq!(check(foreign, true), Ok(()), "{foreign}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "mine").unwrap();
        let args = OverwriteArgs::default();
        let within = |path: &str| folder.path().join(path);
        assert!(args.check_file(Path::new("-")).is_ok());
        assert!(args.check_file(&within("new")).is_ok());
        assert!(args.check_file(&within("none/new")).is_err());
        assert!(args.check_file(folder.path()).is_err());
        assert!(args.check_file_in_new_folder(&within("none/two/new")).is_ok());
        assert!(args.check_file_in_new_folder(&within("file/new")).is_err());
        assert!(args.check_file_in_new_folder(&within("file")).is_err());
    }
}
