//! Gantry's own image: built without a container engine, read by other tools, carried in a bundle, and run
//! as a cluster would run it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::story::{BINARY, text};
use tempfile::TempDir;
use testkit::{Gantry, TestRegistry, tools};

const NAME: &str = concat!("ghcr.io/gantry/gantry:", env!("CARGO_PKG_VERSION"));
const TAG: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_same_binary_gives_the_same_layout_and_skopeo_reads_it() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(&tools::static_gantry_path(), home.path());

    let first =
        gantry.run(["image", "-o", "first", "--output", "json"]).assert_success().parse_json();
    let copy = home.path().join("another-name");
    fs::copy(tools::static_gantry_path(), &copy).unwrap();
    let second = ["image", "-o", "second", "--binary", &text(&copy), "--output", "json"];
    let second = user(BINARY.as_ref(), home.path()).run(second).assert_success().parse_json();

    assert_eq!(first["image"], NAME);
    assert_eq!(first["digest"], second["digest"]);
    let folder = gantry.folder();
    tools::run_command(
        tools::tool_command("diff").arg("-r").arg(folder.join("first")).arg(folder.join("second")),
    );
    let oci = format!("oci:{}", folder.join("first").display());
    let inspected = skopeo(&["inspect", &oci]);
    assert_eq!(inspected["Digest"], first["digest"]);
    let config = skopeo(&["inspect", "--config", &oci]);
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/bin/gantry"]));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
}

#[test]
fn the_image_goes_to_a_registry_and_runs_there_as_any_user_with_a_read_only_root() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(&tools::static_gantry_path(), home.path());
    let site = TestRegistry::start();
    gantry.run(["image"]).assert_success();

    let store = text(gantry.store());
    gantry.run(["load", &store, "--to", &format!("{}/tools", site.host())]).assert_success();

    let served = format!("{}/tools/gantry/gantry:{TAG}", site.host());
    crane(&["validate", "--remote", &served]);
    let root = Root::pulled(&served);
    for user in ["65532:65532", "12345:0", "1000680000:0"] {
        let version = root.run(user, &["version"], "");
        assert!(version.starts_with(&format!("gantry {TAG} ")), "{user}: {version}");
    }
    let pod = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: \"nginx:1\"}]}\n";
    let found = root.run("12345:0", &["images", "-"], pod);
    assert!(found.contains("docker.io/library/nginx:1"), "{found}");
    // It keeps files in /tmp only, and creates an HTTP client although the image has no certificates.
    root.run("12345:0", &["lock", "-C", "/tmp"], "");
    let kept = root.run("12345:0", &["store", "verify", "--output", "json"], "");
    assert!(kept.contains('{'), "{kept}");
}

#[test]
fn binaries_of_two_architectures_make_an_index_in_whichever_order_they_are_named() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(BINARY.as_ref(), home.path());
    let (amd64, arm64) = both_architectures(home.path());
    let site = TestRegistry::start();
    let make = |out: &str, first: &Path, second: &Path| {
        let (first, second) = (text(first), text(second));
        let arguments =
            ["image", "-o", out, "--binary", &first, "--binary", &second, "--output", "json"];
        gantry.run(arguments).assert_success().parse_json()
    };

    let one = make("one", &amd64, &arm64);
    let two = make("two", &arm64, &amd64);
    gantry.run(["load", "one", "--to", &format!("{}/tools", site.host())]).assert_success();

    assert_eq!(one["digest"], two["digest"]);
    let served = format!("{}/tools/gantry/gantry:{TAG}", site.host());
    assert_eq!(crane(&["digest", &served]).trim(), one["digest"].as_str().unwrap());
    for (at, platform) in ["linux/amd64", "linux/arm64"].iter().enumerate() {
        let config = crane(&["config", &format!("--platform={platform}"), &served]);
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(format!("linux/{}", config["architecture"].as_str().unwrap()), *platform);
        assert_eq!(one["platforms"][at]["platform"], *platform);
    }
    crane(&["validate", "--remote", &served]);
}

#[test]
fn what_no_image_can_be_made_of_is_refused_with_the_next_step_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(BINARY.as_ref(), home.path());
    let script = text(&gantry.write_file("script", "#!/bin/sh\n"));
    let good = text(&tools::static_gantry_path());
    let cases: [(&[&str], &str); 5] = [
        // The gantry of the tests is linked dynamically, which is cargo's default.
        (&[], "linked dynamically"),
        (&["--binary", "/bin/ls"], "linked dynamically"),
        (&["--binary", &script], "not a 64-bit Linux program"),
        (&["--binary", "nowhere"], "cannot read nowhere"),
        (&["--binary", &good, "--binary", &good], "one binary per architecture"),
    ];
    for (arguments, expected) in cases {
        let arguments = ["image", "-o", "out"].into_iter().chain(arguments.iter().copied());
        let output = gantry.run(arguments).assert_exit_code(2);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        assert!(!gantry.folder().join("out").exists(), "{expected}");
    }
    let refused = gantry.run(["image"]).assert_exit_code(2).stderr;
    assert!(refused.contains("cargo xtask dist"), "{refused}");
}

#[test]
fn a_bundle_carries_the_image_on_request_and_the_site_gets_what_was_locked() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(&tools::static_gantry_path(), home.path());
    let site = TestRegistry::start();
    gantry.write_file("gantry.yaml", "version: 1\nname: tools\ntools: [gantry]\n");

    gantry.run(["lock"]).assert_success();
    gantry.run(["lock", "--check"]).assert_success();
    // A store that has lost the image gets the same one again from the same binary.
    fs::remove_dir_all(gantry.store()).unwrap();
    gantry.run(["fetch"]).assert_success();
    gantry.run(["pack", "-o", "media"]).assert_success();
    gantry.run(["load", "media", "--to", site.host()]).assert_success();

    let lock = gantry.read_file("gantry.lock");
    let digest = crane(&["digest", &format!("{}/gantry/gantry:{TAG}", site.host())]);
    assert!(lock.contains(NAME) && lock.contains(digest.trim()), "{digest}\n{lock}");
    assert!(lock.contains("gantry: []"), "{lock}");
}

#[test]
fn a_lock_takes_named_binaries_and_refuses_an_image_for_none_of_its_platforms() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(BINARY.as_ref(), home.path());
    both_architectures(gantry.folder());
    let input = |platform: &str, binaries: &str| {
        let head = format!("version: 1\nname: tools\nplatforms: [{platform}]\n");
        gantry.write_file("gantry.yaml", &format!("{head}tools:\n- gantry: [{binaries}]\n"));
    };

    input("linux/amd64, linux/arm64", "amd64, arm64");
    gantry.run(["lock"]).assert_success();
    let lock = gantry.read_file("gantry.lock");
    assert!(lock.contains("platform: linux/arm64") && lock.contains("- amd64"), "{lock}");

    input("linux/arm64", "amd64");
    let refused = gantry.run(["lock"]).assert_exit_code(2).stderr;
    assert!(refused.contains("it is for linux/amd64"), "{refused}");
    assert!(refused.contains("tools: [{gantry: [FILE]}]"), "{refused}");
}

/// A user of the static binary, with an empty configuration.
fn user(binary: &Path, home: &Path) -> Gantry {
    fs::write(home.join("config.yaml"), "{}\n").unwrap();
    Gantry::new(binary, home)
}

/// The static binary, and a copy with the other architecture in its ELF header, which is all that Gantry
/// reads of it.
fn both_architectures(folder: &Path) -> (PathBuf, PathBuf) {
    let mut bytes = fs::read(tools::static_gantry_path()).unwrap();
    let (amd64, arm64) = (folder.join("amd64"), folder.join("arm64"));
    // e_machine, two bytes at 18: EM_X86_64 is 62, EM_AARCH64 is 183.
    for (file, machine) in [(&amd64, 62), (&arm64, 183)] {
        bytes[18] = machine;
        fs::write(file, &bytes).unwrap();
    }
    (amd64, arm64)
}

/// An image's root file system, and how a container engine would run it.
struct Root {
    folder: TempDir,
    environment: Vec<String>,
    entrypoint: String,
}

impl Root {
    fn pulled(image: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("root.tar");
        crane(&["export", image, &text(&archive)]);
        let root = folder.path().join("root");
        // Every container runtime mounts /dev and /proc.
        fs::create_dir_all(root.join("dev")).unwrap();
        tools::run_command(
            tools::tool_command("tar").arg("-xpf").arg(&archive).arg("-C").arg(&root),
        );
        let mut config: serde_json::Value =
            serde_json::from_str(&crane(&["config", image])).unwrap();
        let config = config["config"].take();
        let texts = |value: &serde_json::Value| -> Vec<String> {
            serde_json::from_value(value.clone()).unwrap()
        };
        let (environment, entrypoint) = (texts(&config["Env"]), texts(&config["Entrypoint"]));
        // Temporary folders are readable by their owner only, but the container may run as any user.
        tools::run_command(tools::tool_command("chmod").arg("755").arg(folder.path()).arg(&root));
        Self { folder, environment, entrypoint: entrypoint.concat() }
    }

    /// Runs the entry point as in a restricted pod: no network, a read-only root, its own /tmp, which is
    /// kept between runs, no privileges, and a user that need not be in /etc/passwd.
    fn run(&self, user: &str, arguments: &[&str], input: &str) -> String {
        let script = "\
set -e
mount --bind \"$1\" \"$1\"
mount --rbind /dev \"$1/dev\"
mount --bind \"$2\" \"$1/tmp\"
mount -o remount,bind,ro \"$1\"
root=$1 user=$3
shift 3
exec chroot --groups= --userspec=\"$user\" \"$root\" \"$@\"
";
        let writable = self.folder.path().join("tmp");
        fs::create_dir_all(&writable).unwrap();
        tools::run_command(tools::tool_command("chmod").arg("1777").arg(&writable));
        fs::write(writable.join("gantry.yaml"), "version: 1\nname: inside\n").unwrap();
        let mut command = tools::tool_command("unshare");
        command
            .args(["--mount", "--net", "--", "sh", "-c", script, "sh"])
            .args([&self.folder.path().join("root"), &writable])
            .arg(user)
            .arg(&self.entrypoint)
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|pair| pair.split_once('=').unwrap()))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        with_input(&mut command, input)
    }
}

fn with_input(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn crane(arguments: &[&str]) -> String {
    tools::run_command(tools::tool_command("crane").args(arguments))
}

fn skopeo(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&tools::run_command(tools::tool_command("skopeo").args(arguments)))
        .unwrap()
}
