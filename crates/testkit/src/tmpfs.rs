//! A small disk that is soon full.

use std::path::Path;

use tempfile::TempDir;

use crate::tools;

/// A tmpfs of a given size; unmounted on drop. Needs root.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts a disk of so many bytes (the kernel rounds up to pages).
    pub fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let size = format!("size={bytes}");
        tools::run_command(
            tools::tool_command("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                .arg(folder.path()),
        );
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Changes the size of the disk to so many bytes.
    pub fn resize(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        tools::run_command(
            tools::tool_command("mount").args(["-o", &options]).arg(self.folder.path()),
        );
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a killed process may be about to let go of a file.
        let _ = tools::tool_command("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
