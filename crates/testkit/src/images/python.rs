//! PyPI packages as a folder: downloaded by pip, compiled for Debian's Python, kept by their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::blobs::sha256_digest;
use crate::{build_once, tools};

/// Where Debian's Python looks for packages that are not Debian's.
pub(crate) const PLACE: &str = "usr/local/lib/python3.11/dist-packages";
/// Debian 12's Python; wheels with compiled parts are for one minor version.
const VERSION: &str = "Python 3.11.";

/// A folder with exactly these packages (`name==version`, all that they need included in the list).
pub(crate) fn install_packages(requirements: &[&str]) -> PathBuf {
    let key = sha256_digest(requirements.join(" ").as_bytes()).short_hex();
    build_once::build_folder_once(&format!("python/{key}"), |folder| {
        let mut pip = Command::new(python_program());
        // Wheels only: a source package would run its own build.
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--no-compile", "--only-binary=:all:", "--target"]).arg(folder);
        tools::run_command(pip.args(requirements));
        compile_sources(folder);
    })
}

/// Compiles all modules, so that a container with a read-only root need not do so at each start.
/// By content and not by time: images have one time for all files.
pub(crate) fn compile_sources(folder: &Path) {
    // Scripts name the machine's Python; images call `python3 -m`.
    let _ = fs::remove_dir_all(folder.join("bin"));
    let mut compiler = Command::new(python_program());
    compiler.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
    // The path that tracebacks tell is the image's.
    compiler.args(["-s"]).arg(folder).args(["-p", &format!("/{PLACE}")]).arg(folder);
    tools::run_command(&mut compiler);
}

/// The Python of `dev/setup` that has pip, once it is the version of Debian's.
pub(crate) fn python_program() -> PathBuf {
    let python = tools::main_python();
    let version = tools::run_command(Command::new(python.clone()).arg("--version"));
    assert!(
        version.starts_with(VERSION),
        "{} is {}: images are made of Debian 12's Python, {VERSION}x is needed",
        python.display(),
        version.trim()
    );
    python
}
