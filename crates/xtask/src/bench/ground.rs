//! Where the measurement takes place: the corpus in a registry, the release binary, and for each
//! tool's way a fresh folder and a fresh registry to load into.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use testkit::{TestImages, TestRegistry};

use super::tool::{Place, Step, Tool, label};

/// The folder below which all is made: on the disk that is built on, never a tmpfs.
const FOLDER: &str = "target/bench";

/// The corpus, the registry that has it, and the gantry that is measured.
pub(super) struct Ground {
    images: TestImages,
    upstream: TestRegistry,
    gantry: PathBuf,
    home: TempDir,
}

/// One tool's way: a folder and a registry, both empty at first.
pub(super) struct Run<'a> {
    ground: &'a Ground,
    folder: TempDir,
    site: TestRegistry,
    /// The site's blobs; gone with the run.
    _storage: TempDir,
}

/// Another registry with the same content, and the configuration that leads there.
pub(super) struct Upstream {
    registry: TestRegistry,
    config: tempfile::NamedTempFile,
}

impl Ground {
    pub(super) fn new() -> Result<Self, Box<dyn Error>> {
        let gantry = release_binary()?;
        let images = TestImages::slow();
        fs::create_dir_all(FOLDER)?;
        let home = temporary()?;
        let storage = home.path().join("upstream");
        images.place_in_storage(&storage);
        let upstream = TestRegistry::builder().storage(&storage).start();
        let ground = Self { images, upstream, gantry, home };
        ground.lay_out()?;
        Ok(ground)
    }

    pub(super) fn images(&self) -> &TestImages {
        &self.images
    }

    pub(super) fn gantry(&self) -> &Path {
        &self.gantry
    }

    pub(super) fn upstream(&self) -> &TestRegistry {
        &self.upstream
    }

    /// One more registry on the same storage, with a log of its own.
    pub(super) fn second_upstream(&self) -> Result<Upstream, Box<dyn Error>> {
        let registry = TestRegistry::builder().storage(self.upstream.storage()).start();
        let config = tempfile::NamedTempFile::new()?;
        fs::write(config.path(), self.config(&registry))?;
        Ok(Upstream { registry, config })
    }

    /// A fresh folder and a fresh registry.
    pub(super) fn run(&self) -> Result<Run<'_>, Box<dyn Error>> {
        let (folder, storage) = (temporary()?, temporary()?);
        for name in ["images", "archives", "tmp"] {
            fs::create_dir(folder.path().join(name))?;
        }
        for name in ["corpus", "layouts"] {
            symlink(self.home.path().join(name), folder.path().join(name))?;
        }
        for name in ["gantry.yaml", "gantry.lock"] {
            fs::copy(self.home.path().join(name), folder.path().join(name))?;
        }
        let site = TestRegistry::builder().storage(storage.path()).start();
        Ok(Run { ground: self, folder, site, _storage: storage })
    }

    /// `sh` with a script, in a folder, with the tools on its PATH and nothing of the user's.
    pub(super) fn shell(&self, script: &str, folder: &Path) -> Command {
        let gantry = self.gantry.parent().map(Path::to_path_buf);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = gantry
            .into_iter()
            .chain([testkit::tools::cache_folder().join("bin")])
            .chain(std::env::split_paths(&path));
        let mut command = Command::new("sh");
        command
            .args(["-ec", script])
            .current_dir(folder)
            .env_clear()
            // A PATH that can be split can be joined again.
            .env("PATH", std::env::join_paths(folders).unwrap_or(path))
            .env("HOME", self.home.path())
            .env("TMPDIR", folder.join("tmp"))
            .env("GANTRY_STORE", folder.join("store"))
            .env("GANTRY_CONFIG", self.home.path().join("config.yaml"));
        command
    }

    /// Runs a script that is not measured.
    pub(super) fn prepare(&self, script: &str, folder: &Path) -> Result<String, Box<dyn Error>> {
        let output = self.shell(script, folder).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{script} failed ({}):\n{said}", output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a user types for the first image, by tool and step.
    pub(super) fn typed(&self) -> Vec<(Tool, Step, String)> {
        let first = self.images.iter().next().map(|image| image.reference.to_string());
        let images = self.images.select(&first.iter().map(String::as_str).collect::<Vec<_>>());
        let place = Place { images: &images, upstream: "upstream:5000", site: "site:5000" };
        let all = Tool::ALL.into_iter().flat_map(|tool| Step::ALL.map(|step| (tool, step)));
        all.filter_map(|(tool, step)| Some((tool, step, tool.script(step, &place)?))).collect()
    }

    /// The files that the tools need: Gantry's input and lock, the blobs of the corpus by their
    /// names for `cp`, a layout for each image for `crane push`.
    fn lay_out(&self) -> Result<(), Box<dyn Error>> {
        let home = self.home.path();
        fs::create_dir(home.join("tmp"))?;
        fs::write(home.join("config.yaml"), self.config(&self.upstream))?;
        let names: Vec<_> = self.images.iter().map(|image| image.reference.to_string()).collect();
        write_input(home, &names)?;
        self.prepare("gantry lock", home)?;

        let corpus = home.join("corpus");
        fs::create_dir(&corpus)?;
        for digest in self.images.unique_blobs().keys() {
            symlink(self.images.blob_path(digest), corpus.join(digest.hex()))?;
        }
        for image in self.images.iter() {
            let from = self.images.layout_path(&image.reference.to_string());
            let to = home.join("layouts").join(label(image));
            fs::create_dir_all(&to)?;
            symlink(fs::canonicalize(from.join("blobs"))?, to.join("blobs"))?;
            fs::copy(from.join("oci-layout"), to.join("oci-layout"))?;
            // crane takes a layout of one image; the companions of a signed one stay behind.
            let mut index: serde_json::Value =
                serde_json::from_slice(&fs::read(from.join("index.json"))?)?;
            if let Some(manifests) = index["manifests"].as_array_mut() {
                manifests.truncate(1);
            }
            fs::write(to.join("index.json"), index.to_string())?;
        }
        Ok(())
    }

    /// A configuration in which a registry stands for all hosts of the corpus. JSON is YAML as well.
    fn config(&self, registry: &TestRegistry) -> String {
        let hosts: BTreeSet<&str> =
            self.images.iter().map(|image| image.reference.registry()).collect();
        let mirrors: serde_json::Map<_, _> =
            hosts.into_iter().map(|host| (host.to_owned(), json!(registry.url()))).collect();
        json!({ "mirrors": mirrors }).to_string()
    }
}

impl Upstream {
    pub(super) fn registry(&self) -> &TestRegistry {
        &self.registry
    }

    pub(super) fn config(&self) -> &Path {
        self.config.path()
    }
}

impl Run<'_> {
    /// The folder that all of the tool's files are in.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The registry to load into.
    pub(super) fn site(&self) -> &str {
        self.site.host()
    }

    /// A tool's step here; `None` where the tool has nothing like it.
    pub(super) fn command(&self, tool: Tool, step: Step) -> Option<Command> {
        let place = Place {
            images: &self.ground.images,
            upstream: self.ground.upstream.host(),
            site: self.site.host(),
        };
        let script = tool.script(step, &place)?;
        Some(self.ground.shell(&script, self.folder.path()))
    }
}

/// Gantry's input for these images: all platforms that the corpus has, as the other tools take.
pub(super) fn write_input(folder: &Path, images: &[String]) -> Result<(), Box<dyn Error>> {
    let input = json!({
        "version": 1,
        "name": "bench",
        "platforms": ["linux/amd64", "linux/arm64"],
        "images": images,
    });
    Ok(fs::write(folder.join("gantry.yaml"), input.to_string())?)
}

/// A folder of its own below [`FOLDER`], with an absolute path.
pub(super) fn temporary() -> Result<TempDir, Box<dyn Error>> {
    Ok(tempfile::tempdir_in(fs::canonicalize(FOLDER)?)?)
}

/// Builds the optimised command, and where it is.
pub(crate) fn release_binary() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--release", "--package", "gantry-cli"]).status()?;
    if !built.success() {
        return Err("gantry does not build".into());
    }
    Ok(fs::canonicalize("target/release/gantry")?)
}
