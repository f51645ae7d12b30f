//! `cargo xtask dist`: the static binary that a release hands out and that Gantry's own image is
//! made of.
//!
//! glibc linked statically, not musl: it is the toolchain's own target, its allocator serves many
//! threads well, and since glibc 2.34 names are looked up in files and DNS without a library at run
//! time (glibc's NEWS for 2.34), so that nothing is missing in an empty image.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which build it is, and for what.
struct Wanted {
    profile: Profile,
    /// As `rustc --print target-list` has it; the machine's own when absent.
    target: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Release,
    Dev,
}

/// Builds it and prints its path.
pub(crate) fn build(arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let wanted = Wanted::parse(arguments)?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["rustc", "--locked", "--package", "gantry-cli", "--bin", "gantry"]);
    if wanted.profile == Profile::Release {
        cargo.arg("--release");
    }
    if let Some(target) = &wanted.target {
        cargo.args(["--target", target]);
    }
    // Static is a matter of the last step alone: all crates are those of any other build.
    cargo.args(["--", "-Ctarget-feature=+crt-static", "-Cstrip=symbols"]);
    if !cargo.status()?.success() {
        return Err("cargo could not build gantry".into());
    }
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let built = wanted.built(&folder);
    let place = wanted.place(&folder)?;
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    // A new file, so that a copy that runs just now stays what it is.
    let fresh = place.with_extension("new");
    fs::copy(&built, &fresh)
        .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
    fs::rename(&fresh, &place)?;
    println!("{}", place.display());
    Ok(())
}

impl Wanted {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut wanted = Self { profile: Profile::Release, target: None };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--dev" => wanted.profile = Profile::Dev,
                "--target" => {
                    wanted.target = Some(arguments.next().ok_or("--target needs a triple")?);
                }
                other => return Err(format!("dist takes no {other}; see cargo xtask help").into()),
            }
        }
        Ok(wanted)
    }

    /// Where cargo leaves it.
    fn built(&self, folder: &Path) -> PathBuf {
        let profile = match self.profile {
            Profile::Release => "release",
            Profile::Dev => "debug",
        };
        let folder = self.target.as_ref().map_or(folder.to_owned(), |target| folder.join(target));
        folder.join(profile).join("gantry")
    }

    /// `target/dist/gantry-linux-amd64`, or in `target/dist/dev`.
    fn place(&self, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
        let machine = match &self.target {
            Some(target) => target.split('-').next().unwrap_or_default(),
            None if cfg!(target_os = "linux") => env::consts::ARCH,
            None => {
                return Err("images are for Linux: give --target x86_64-unknown-linux-gnu".into());
            }
        };
        let architecture = match machine {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => return Err(format!("no image is made for {other}").into()),
        };
        let folder = folder.join("dist");
        let folder = if self.profile == Profile::Dev { folder.join("dev") } else { folder };
        Ok(folder.join(format!("gantry-linux-{architecture}")))
    }
}
