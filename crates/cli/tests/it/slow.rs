//! The whole procedure with about a gigabyte, and with one large blob: complete, and in little memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use testkit::{Gantry, TestEnvironment, tools};

use crate::story::{BINARY, joined, pack, text};

/// The limit for the memory of a command, whatever the size of a blob.
const MOST_MEMORY: u64 = 80 << 20;

#[test]
fn a_gigabyte_of_images_goes_the_whole_way_with_equal_digests() {
    let world = TestEnvironment::slow();
    let gantry = world.gantry(BINARY);
    let names: Vec<String> =
        world.images().iter().map(|image| image.reference.to_string()).collect();
    let list = names.join(", ");
    let input = format!(
        "version: 1\nname: slow\nplatforms: [linux/amd64, linux/arm64]\nimages: [{list}]\n"
    );
    gantry.write_file("gantry.yaml", &input);
    let media = tempfile::tempdir().unwrap();

    gantry.run(["lock"]).assert_success();
    assert!(peak(&gantry, &["fetch"]) < MOST_MEMORY);
    pack(&gantry, media.path(), "256MiB");
    fs::remove_dir_all(gantry.store()).unwrap();
    let to = world.site().host().to_owned();
    let memory = peak(&gantry, &["load", &text(media.path()), "--to", &to]);

    assert!(memory < MOST_MEMORY, "{memory}");
    for name in &names {
        let image = world.images().get(name);
        let target = format!("{to}/{}:{}", image.repository(), image.tag());
        let digest = tools::run_command(tools::tool_command("crane").args(["digest", &target]));
        assert_eq!(digest.trim(), image.digest.to_string(), "{name}");
    }
}

#[test]
fn volumes_of_64_mib_are_opened_with_tar_and_each_image_is_read_by_skopeo() {
    let world = TestEnvironment::slow();
    let gantry = world.gantry(BINARY);
    let images: Vec<_> = world.images().iter().collect();
    let names: Vec<String> = images.iter().map(|image| image.reference.to_string()).collect();
    let list = names.join(", ");
    gantry.write_file("gantry.yaml", &format!("version: 1\nname: slow\nimages: [{list}]\n"));
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let media = tempfile::tempdir().unwrap();

    let volumes = pack(&gantry, media.path(), "64MiB");
    fs::remove_dir_all(gantry.store()).unwrap();
    let layout = joined(&volumes, &media.path().join("layout"));

    assert!(volumes.iter().all(|volume| volume.metadata().unwrap().len() < 64 << 20));
    for image in images {
        let name = image.reference.to_string();
        // In a layout, skopeo finds only OCI manifests by name, not docker's.
        if image.manifests[0].media_type.contains("docker") {
            continue;
        }
        let target = format!("oci:{}:copy", media.path().join("copy").display());
        let source = format!("oci:{}:{name}", layout.display());
        tools::run_command(
            tools::tool_command("skopeo").args(["copy", "--quiet", &source, &target]),
        );
    }
}

#[test]
fn a_blob_of_four_gibibytes_needs_no_more_memory_than_a_small_one() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(BINARY);
    let model = gantry.folder().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    File::create(model.join("model.safetensors")).unwrap().set_len(4 << 30).unwrap();
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: big\nmodels: [{hf: own/big, folder: model}]\n",
    );
    let media = tempfile::tempdir().unwrap();
    let (out, to) = (text(media.path()), world.site().host().to_owned());

    // Deletes what is no longer needed, so that at most two copies are on the disk.
    for arguments in [
        vec!["lock"],
        vec!["fetch"],
        vec!["pack", "-o", &out, "--file-size", "3GiB"],
        vec!["verify", &out],
        vec!["load", &out, "--to", &to],
    ] {
        let memory = peak(&gantry, &arguments);
        assert!(memory < MOST_MEMORY, "{arguments:?} took {memory} bytes");
        if arguments[0] == "pack" {
            fs::remove_dir_all(gantry.store()).unwrap();
        }
    }
    fs::remove_dir_all(world.site().storage()).unwrap();
    // And over the network: from the depot into another store.
    let mut depot = gantry.start(["serve", &out, "--listen", "127.0.0.1:0"]);
    let url = depot.wait_for_word_after(" on ");
    world.set_mirrors(&world.upstream().url(), &url);
    let other = world.gantry(BINARY).with_store(&media.path().join("store"));
    other.write_file("gantry.yaml", "version: 1\nname: big\nmodels: [{hf: own/big}]\n");
    other.run(["lock"]).assert_success();

    assert!(peak(&other, &["fetch"]) < MOST_MEMORY);
}

/// Runs the command, which must succeed, and returns its peak memory in bytes.
fn peak(gantry: &Gantry, arguments: &[&str]) -> u64 {
    const WATCH: &str = "\
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)";
    let command = gantry.command(arguments);
    let mut watched = Command::new("python3");
    watched.args(["-c", WATCH]).arg(command.get_program()).args(command.get_args());
    watched.current_dir(command.get_current_dir().unwrap_or(Path::new("."))).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            watched.env(name, value);
        }
    }
    tools::run_command(&mut watched).trim().parse::<u64>().unwrap() << 10
}
