//! A container engine's Docker API: podman's service on a socket and a storage of its own, for
//! images that were built on the machine and never pushed anywhere.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::images::TestImages;
use crate::process::{ServerProcess, wait_until};
use crate::tools;

/// A running engine, empty at first; gone on drop. Needs root.
#[derive(Debug)]
pub struct PodmanService {
    _process: ServerProcess,
    folder: TempDir,
}

impl PodmanService {
    /// Starts podman's API service and returns when it answers.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root = folder.path();
        let process = ServerProcess::start(
            tools::tool_command("podman")
                .arg("--root")
                .arg(root.join("root"))
                .arg("--runroot")
                .arg(root.join("run"))
                // Plain folders: the only driver that works in every container and on every disk.
                .args(["--storage-driver", "vfs", "system", "service", "--time", "0"])
                .arg(format!("unix://{}", root.join("podman.sock").display())),
            &root.join("log"),
        );
        let engine = Self { _process: process, folder };
        wait_until("podman's service answers", || engine.send_request("_ping", &[]).is_some());
        engine
    }

    /// The socket that speaks Docker's API.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("podman.sock")
    }

    /// Gives the engine an image of a set, as a `docker build` would have left it there: without
    /// a registry's digest, and of one platform.
    pub fn load_image(&self, images: &TestImages, reference: &str) {
        let archive = self.folder.path().join("load.tar");
        save_image(images, reference, &archive);
        let said = self.load_archive(&archive);
        assert!(said.contains("Loaded image"), "podman did not take {reference}: {said}");
        std::fs::remove_file(archive).expect("an archive can be removed");
    }

    /// Loads an archive as `docker load` does, and returns the engine's answer, which names the image.
    pub fn load_archive(&self, archive: &Path) -> String {
        let loaded = self.send_request(
            "images/load",
            &[
                "-H",
                "Content-Type: application/x-tar",
                "-X",
                "POST",
                "-T",
                &archive.display().to_string(),
            ],
        );
        loaded.unwrap_or_else(|| panic!("podman did not take {}", archive.display()))
    }

    fn send_request(&self, path: &str, arguments: &[&str]) -> Option<String> {
        let output = tools::tool_command("curl")
            .args(["-sS", "--fail-with-body", "--unix-socket"])
            .arg(self.socket())
            .args(arguments)
            .arg(format!("http://engine/v1.41/{path}"))
            .output()
            .expect("curl can be started");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl TestImages {
    /// Writes an image as `docker save` does (its amd64 side), for `images: {archive: FILE}`.
    pub fn save_archive(&self, reference: &str, archive: &Path) {
        save_image(self, reference, archive);
    }
}

/// Writes the archive that `docker save` would make of an image of a set.
fn save_image(images: &TestImages, reference: &str, archive: &Path) {
    let image = images.get(reference);
    let layout = images.layout_path(reference);
    // skopeo refuses to change an archive that is there.
    let _ = std::fs::remove_file(archive);
    tools::run_command(tools::tool_command("skopeo").args([
        "copy",
        "--override-arch=amd64",
        &format!("oci:{}:{}", layout.display(), image.tag()),
        &format!("docker-archive:{}:{reference}", archive.display()),
    ]));
}
