//! `gantry lock`: resolves an input to all digests, with the same result each time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Command;

use crate::story::{self, INPUT, SMALL, user};
use testkit::{TestEnvironment, TestImages, tools};

#[test]
fn locking_twice_gives_the_same_bytes_and_check_agrees() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);

    gantry.run(["lock"]).assert_success();
    let first = gantry.read_file("gantry.lock");
    gantry.run(["lock"]).assert_success();
    gantry.run(["lock", "--check"]).assert_success();

    assert_eq!(gantry.read_file("gantry.lock"), first);
    // Another user with an empty store gets the same lock.
    let other = TestEnvironment::fast();
    let elsewhere = user(&other, INPUT);
    elsewhere.run(["lock"]).assert_success();
    assert_eq!(elsewhere.read_file("gantry.lock"), first);
}

#[test]
fn a_changed_input_makes_the_lock_stale_and_a_new_lock_keeps_the_pins() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    let before = gantry.read_file("gantry.lock");

    gantry.write_file("gantry.yaml", &SMALL.replace("[ghcr", "[docker.io/library/redis:7.0, ghcr"));
    let stale = gantry.run(["lock", "--check"]).assert_exit_code(1);

    assert!(
        stale.stderr.contains("out of date") && stale.stderr.contains("gantry lock"),
        "{}",
        stale.stderr
    );
    assert_eq!(gantry.read_file("gantry.lock"), before, "--check writes nothing");
    let added = |text: &str| {
        text.lines().any(|line| {
            line.starts_with('+')
                && line.contains("docker.io/library/redis")
                && line.contains("7.0")
        })
    };
    assert!(added(&stale.stderr), "{}", stale.stderr);
    let locked = gantry.run(["lock"]).assert_success().stdout;
    assert!(added(&locked) && locked.contains("1 added, 0 removed, 0 changed"), "{locked}");
    assert!(gantry.read_file("gantry.lock").contains("docker.io/library/redis:7.0"));
}

#[test]
fn every_verb_that_carries_refuses_a_lock_of_another_input_and_names_the_difference() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    // A comment, another order or another form ask for the same.
    gantry.write_file("gantry.yaml", &format!("# reviewed\n{SMALL}\nchecks: []\n"));
    gantry.run(["plan"]).assert_success();

    gantry.write_file("gantry.yaml", &SMALL.replace("[ghcr", "[docker.io/library/redis:7.0, ghcr"));
    for verb in [&["plan"][..], &["fetch"], &["pack", "-o", "media"]] {
        let refused = gantry.run(verb).assert_exit_code(2);
        assert!(
            refused.stderr.contains("added image docker.io/library/redis:7.0")
                && refused.stderr.contains("gantry lock"),
            "{verb:?}: {}",
            refused.stderr
        );
    }
    // Where there is only a lock, there is nothing to compare it with.
    fs::remove_file(gantry.folder().join("gantry.yaml")).unwrap();
    gantry.run(["plan"]).assert_success();
    gantry.run(["pack", "-o", "media"]).assert_success();
}

#[test]
fn a_moved_tag_stays_pinned_until_it_is_upgraded() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    let pinned = gantry.read_file("gantry.lock");
    // Somebody pushes another image under the tag.
    let from = world.images().layout_path("docker.io/library/redis:7.0");
    let to = format!("docker://{}/gantry-examples/tools:1.0", world.upstream().host());
    tools::run_command(
        tools::tool_command("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", from.display()))
            .arg(to),
    );

    gantry.run(["lock"]).assert_success();
    assert_eq!(gantry.read_file("gantry.lock"), pinned, "a pin stays");
    let upgrade = ["lock", "--upgrade", "ghcr.io/gantry-examples/tools", "--output", "json"];
    let upgraded = gantry.run(upgrade).assert_success().parse_json();

    // The tag is the same, and the digest before and after says what happened.
    let change = &upgraded["contentChanges"]["changedItems"][0];
    assert_eq!(change["olderItem"]["name"], change["newerItem"]["name"], "{upgraded:#}");
    assert_ne!(change["olderItem"]["digest"], change["newerItem"]["digest"]);
    assert_ne!(gantry.read_file("gantry.lock"), pinned);
    let unknown = gantry.run(["lock", "--upgrade", "nothing"]).assert_exit_code(2);
    assert!(unknown.stderr.contains("nothing"), "{}", unknown.stderr);
}

#[test]
fn a_chart_names_its_images_with_hooks_and_tests_and_says_where() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    copy(&umbrella(), gantry.folder());

    let result = gantry.run(["lock", "--output", "json"]).assert_success().parse_json();

    assert_eq!(result["chartCount"], 1);
    let lock = gantry.read_file("gantry.lock");
    for image in ["docker.io/library/nginx:1.22", "ghcr.io/gantry-examples/tools:1.0"] {
        assert!(lock.contains(image), "{image}");
    }
    assert!(lock.contains("template: umbrella/charts/"), "a reviewer sees where:\n{lock}");
    assert!(lock.contains("sha256-") && lock.contains(".sig"), "the signature comes along");
    assert!(lock.contains("application/spdx+json"), "the SBOM comes along");
}

#[test]
fn what_is_on_the_machine_already_is_locked_fetched_and_served_like_all_else() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let folder = gantry.folder().to_owned();
    let images: &TestImages = world.images();
    images.save_archive("ghcr.io/gantry-examples/tools:1.0", &folder.join("own.tar"));
    let layout = folder.join("redis");
    images.copy_layout("docker.io/library/redis:7.0", &layout);
    fs::create_dir(folder.join("own-model")).unwrap();
    fs::write(folder.join("own-model/config.json"), "{}").unwrap();
    fs::write(folder.join("own-model/model.safetensors"), vec![7; 20 << 20]).unwrap();
    fs::write(folder.join("runbook.pdf"), "read me").unwrap();
    gantry.write_file(
        "gantry.yaml",
        &format!(
            "\
version: 1
name: local
images:
  - image: ghcr.io/gantry-examples/tools:1.0
    archive: own.tar
  - image: docker.io/library/redis:7.0
    layout: {}
models:
  - hf: own/model
    folder: own-model
  - image: ghcr.io/gantry-examples/embedder-baked:1.0
    path: /app/.cache/huggingface
files: [runbook.pdf]
",
            layout.display()
        ),
    );

    gantry.run(["lock"]).assert_success();
    // Content that the store has lost is read from its local source again.
    let kept = gantry.read_file("gantry.lock");
    fs::remove_dir_all(gantry.store()).unwrap();
    gantry.run(["fetch"]).assert_success();

    assert_eq!(gantry.read_file("gantry.lock"), kept);
    gantry.run(["store", "verify"]).assert_success();
    let listed = gantry.run(["store", "ls", "--output", "json"]).assert_success().parse_json();
    let rows = &listed["roots"];
    let kinds: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    for kind in ["image", "model", "file"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    // A different archive at the same path is noticed, and one that holds another image is refused.
    images.save_archive("docker.io/library/busybox:1.35", &folder.join("own.tar"));
    let refused = gantry.run(["lock", "--check"]).assert_exit_code(2);
    assert!(
        refused.stderr.contains("docker.io/library/busybox:1.35")
            && refused.stderr.contains("ghcr.io/gantry-examples/tools:1.0"),
        "{}",
        refused.stderr
    );
}

#[test]
fn init_writes_an_input_that_locks() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    copy(&umbrella(), &gantry.folder().join("chart"));

    gantry.run(["init", "./chart", "--name", "mine"]).assert_success();
    let again = gantry.run(["init", "./chart"]).assert_exit_code(2);
    gantry.run(["lock"]).assert_success();

    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert!(gantry.read_file("gantry.lock").contains("name: mine"));
}

fn umbrella() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/umbrella")
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    let status = Command::new("cp").arg("-R").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}
