//! Debian packages by name, with all that they need, as files: apt's own resolver and downloader on
//! a private, all but empty dpkg database, so that neither root nor the machine's packages matter.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// The release whose packages the images are made of.
const SUITE: &str = "bookworm";
/// Packages that only installation scripts need, which are never run here. apt is made to believe
/// that they are installed, so that neither they nor their dependencies are downloaded.
const FOR_SCRIPTS: [&str; 13] = [
    "adduser",
    "cdebconf",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "logrotate",
    "lsb-base",
    "passwd",
    "sysvinit-utils",
    "tar",
    "ucf",
    "usrmerge",
];

/// apt for one architecture, in a folder of its own below the cache; packages stay there.
#[derive(Debug)]
pub(crate) struct DebianArchive {
    config: PathBuf,
    archives: PathBuf,
    /// Held while this lives: two processes must not download one file at once.
    _lock: File,
}

/// A package's file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DebianPackage {
    /// `libc6`.
    pub(crate) name: String,
    /// `2.36-9+deb12u10`.
    pub(crate) version: String,
    /// Its download's length in bytes.
    pub(crate) size: u64,
    /// Its `.deb`, once it is downloaded.
    pub(crate) file: PathBuf,
}

impl DebianArchive {
    /// Readies apt for an architecture (`amd64`, `arm64`) and reads the package lists.
    pub(crate) fn new(architecture: &str) -> Self {
        let root = tools::cache_folder().join("debian").join(architecture);
        let archives = root.join("archives");
        fs::create_dir_all(root.join("lists/partial")).expect("a cache folder can be made");
        fs::create_dir_all(archives.join("partial")).expect("a cache folder can be made");
        fs::create_dir_all(root.join("none")).expect("a cache folder can be made");
        let lock = File::create(root.join("lock")).expect("a lock file can be made");
        lock.lock().expect("a lock can be waited for");

        fs::write(root.join("status"), status_text()).expect("a status can be written");
        fs::write(root.join("sources.list"), sources_text()).expect("a source list can be written");
        let config = root.join("apt.conf");
        fs::write(&config, apt_config(architecture, &root)).expect("a config can be written");
        let debian = Self { config, archives, _lock: lock };
        tools::run_command(debian.apt_command().args(["-qq", "update"]));
        debian
    }

    /// The packages and all that they need, sorted by name; not downloaded yet.
    pub(crate) fn find_packages(&self, names: &[&str]) -> Vec<DebianPackage> {
        // 'URI' FILE SIZE [HASH]
        let all = tools::run_command(
            self.apt_command()
                .args(["-qq", "-y", "--no-install-recommends", "--print-uris", "install"])
                // A folder without archives: else apt leaves out what was downloaded before.
                .args([
                    "-o",
                    &format!("Dir::Cache::archives={}", self.empty_status_file().display()),
                ])
                .args(names),
        );
        let mut packages: Vec<DebianPackage> = all
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                Some(self.describe_package(words.next()?, words.next()?.parse().ok()?))
            })
            .collect();
        packages.sort();
        packages
    }

    /// Downloads these packages, all at once; what is there already is not fetched again.
    pub(crate) fn download_packages<'a>(&self, packages: impl Iterator<Item = &'a DebianPackage>) {
        let missing: BTreeSet<String> = packages
            .filter(|package| !package.file.is_file())
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        if !missing.is_empty() {
            tools::run_command(
                self.apt_command()
                    .args(["-qq", "download"])
                    .args(missing)
                    .current_dir(&self.archives),
            );
        }
    }

    fn describe_package(&self, file: &str, size: u64) -> DebianPackage {
        let mut parts = file.trim_end_matches(".deb").split('_');
        let name = parts.next().unwrap_or_default().to_owned();
        // apt writes a version's epoch as 1%3a in file names.
        let version = parts.next().unwrap_or_default().replace("%3a", ":");
        DebianPackage { name, version, size, file: self.archives.join(file) }
    }

    fn apt_command(&self) -> Command {
        let mut command = tools::tool_command("apt-get");
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C.UTF-8");
        command
    }

    fn empty_status_file(&self) -> PathBuf {
        self.config.with_file_name("none")
    }
}

/// The packages of `all` that `below` has not.
pub(crate) fn packages_beyond(
    all: Vec<DebianPackage>,
    below: &HashSet<String>,
) -> Vec<DebianPackage> {
    all.into_iter().filter(|package| !below.contains(&package.name)).collect()
}

fn apt_config(architecture: &str, root: &Path) -> String {
    let root = root.display();
    format!(
        r#"APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::State "{root}";
Dir::State::status "{root}/status";
Dir::State::lists "{root}/lists";
Dir::Cache "{root}";
Dir::Cache::archives "{root}/archives";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "{root}/none";
Dir::Etc::preferencesparts "{root}/none";
"#
    )
}

/// A dpkg database in which only [`FOR_SCRIPTS`] are installed.
fn status_text() -> String {
    FOR_SCRIPTS.iter().fold(String::new(), |mut status, name| {
        writeln!(
            status,
            "Package: {name}\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: foreign\n\
             Maintainer: testkit\nDescription: stands for {name}\nVersion: 999\n"
        )
        .expect("a string takes all");
        status
    })
}

/// The machine's own Debian mirrors, or Debian's where it names none: other sources on the machine
/// may lack the architecture or the release.
fn sources_text() -> String {
    let configured = configured_uris();
    let uri = |end: &str| {
        configured
            .iter()
            .find(|uri| uri.ends_with(end))
            .cloned()
            .unwrap_or_else(|| format!("http://deb.debian.org{end}"))
    };
    let (main, security) = (uri("/debian"), uri("/debian-security"));
    let mut list = String::new();
    for (uri, suite) in [
        (&main, SUITE.to_owned()),
        (&main, format!("{SUITE}-updates")),
        (&security, format!("{SUITE}-security")),
    ] {
        writeln!(list, "deb {uri} {suite} main").expect("a string takes all");
    }
    list
}

fn configured_uris() -> Vec<String> {
    let folder = Path::new("/etc/apt/sources.list.d").read_dir();
    let files = folder.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    std::iter::once(PathBuf::from("/etc/apt/sources.list"))
        .chain(files)
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| {
            text.lines()
                .filter(|line| !line.trim_start().starts_with('#'))
                .flat_map(str::split_whitespace)
                .filter(|word| word.starts_with("http"))
                .map(|word| word.trim_end_matches('/').to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}
