//! Archives of many images: one line of gantry.yaml carries all of them, or those that are chosen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::story::{self, text, user};
use testkit::{Gantry, TestEnvironment, tools};

const TOOLS: &str = "ghcr.io/gantry-examples/tools:1.0";
const REDIS: &str = "docker.io/library/redis:7.0";

/// An archive as `docker save` writes it of several images, from archives of skopeo: the members of all
/// of them, and one manifest.json.
fn save_images(world: &TestEnvironment, folder: &Path, images: &[(&str, &str)]) -> PathBuf {
    let (parts, members) = (folder.join("parts"), folder.join("members"));
    fs::create_dir_all(&parts).unwrap();
    fs::create_dir_all(&members).unwrap();
    let mut items = Vec::new();
    for (number, (image, name)) in images.iter().enumerate() {
        let part = parts.join(format!("{number}.tar"));
        let from = format!("oci:{}", text(&world.images().layout_path(image)));
        let to = format!("docker-archive:{}:{name}", text(&part));
        tools::run_command(tools::tool_command("skopeo").args(["copy", "--quiet", &from, &to]));
        tools::run_command(Command::new("tar").arg("xf").arg(&part).arg("-C").arg(&members));
        let manifest = fs::read(members.join("manifest.json")).unwrap();
        let own: Vec<serde_json::Value> = serde_json::from_slice(&manifest).unwrap();
        items.extend(own);
    }
    fs::write(members.join("manifest.json"), serde_json::to_vec(&items).unwrap()).unwrap();
    let archive = folder.join("akko-images.tar");
    tools::run_command(
        Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(&members).arg("."),
    );
    fs::remove_dir_all(parts).unwrap();
    fs::remove_dir_all(members).unwrap();
    archive
}

fn lock(gantry: &Gantry, images: &str) -> Vec<String> {
    gantry.write_file("gantry.yaml", &format!("version: 1\nname: a\nimages:\n{images}"));
    gantry.run(["lock"]).assert_success();
    let lock = gantry.read_file("gantry.lock");
    let lines = lock.lines().filter_map(|line| line.strip_prefix("- reference: "));
    lines.map(|name| name.trim_matches('"').to_owned()).collect()
}

#[test]
fn one_line_carries_all_images_of_an_archive_or_those_that_are_chosen() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, "");
    let names = ["docker.io/akko/redis:1", "docker.io/akko/tools:1", "quay.io/akko/other:2"];
    let images = [(REDIS, names[0]), (TOOLS, names[1]), (TOOLS, names[2])];
    let archive = save_images(&world, gantry.folder(), &images);
    tools::run_command(Command::new("gzip").arg("-1").arg(&archive));

    assert_eq!(lock(&gantry, "- {archive: akko-images.tar.gz}\n"), names);
    let locked = gantry.read_file("gantry.lock");
    gantry.run(["fetch"]).assert_success();
    gantry.run(["store", "verify"]).assert_success();
    // What the store has lost comes from the archive again.
    fs::remove_dir_all(gantry.store()).unwrap();
    gantry.run(["fetch"]).assert_success();
    gantry.run(["lock", "--check"]).assert_success();
    assert_eq!(gantry.read_file("gantry.lock"), locked);
    gantry.run(["store", "verify"]).assert_success();

    let chosen = "- {archive: akko-images.tar.gz, images: [\"docker.io/akko/*\"]}\n";
    assert_eq!(lock(&gantry, chosen), names[..2]);
    // An image of its own beside the rest of its archive, and one from a registry.
    let mixed = format!(
        "- {{image: \"{}\", archive: akko-images.tar.gz}}\n- {{archive: akko-images.tar.gz, images: [other]}}\n- {REDIS}\n",
        names[1]
    );
    assert_eq!(lock(&gantry, &mixed), [names[1], REDIS, names[2]]);

    for (images, parts) in [
        ("- {archive: akko-images.tar.gz, images: [akka/*]}\n", ["\"akka/*\"", names[0]]),
        ("- {archive: none.tar}\n", ["none.tar does not exist", "check the path"]),
        ("- {archive: akko-images.tar.gz, platforms: [linux/s390x]}\n", [names[0], "linux/s390x"]),
    ] {
        gantry.write_file("gantry.yaml", &format!("version: 1\nname: a\nimages:\n{images}"));
        let refused = gantry.run(["lock"]).assert_exit_code(2).stderr;
        assert!(parts.iter().all(|part| refused.contains(part)), "{images}: {refused}");
    }
}

#[test]
fn a_name_of_an_archive_that_means_other_content_elsewhere_is_refused_with_both_places() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, "");
    let archive = save_images(&world, gantry.folder(), &[(TOOLS, REDIS), (TOOLS, "own:1")]);
    fs::copy(&archive, gantry.folder().join("same.tar")).unwrap();
    let other = save_images(&world, gantry.folder(), &[(REDIS, "own:1")]);
    fs::rename(&other, gantry.folder().join("other.tar")).unwrap();
    fs::copy(gantry.folder().join("same.tar"), &archive).unwrap();

    // The same content twice is one image.
    let twice = lock(&gantry, "- {archive: akko-images.tar}\n- {archive: same.tar}\n");
    assert_eq!(twice, ["docker.io/library/own:1", REDIS]);
    for (images, parts) in [
        (
            "- {archive: same.tar}\n- {archive: other.tar}\n".to_owned(),
            ["docker.io/library/own:1", "the archive same.tar", "the archive other.tar"],
        ),
        (
            format!("- {{archive: same.tar}}\n- {REDIS}\n"),
            [REDIS, "the archive same.tar", "the image in docker.io"],
        ),
    ] {
        gantry.write_file("gantry.yaml", &format!("version: 1\nname: a\nimages:\n{images}"));
        let refused = gantry.run(["lock"]).assert_exit_code(2).stderr;
        assert!(parts.iter().all(|part| refused.contains(part)), "{images}: {refused}");
    }
}

#[test]
fn an_archive_has_the_images_that_a_chart_names() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    save_images(
        &world,
        gantry.folder(),
        &[(TOOLS, "akko.local/web:1"), (REDIS, "akko.local/db:1")],
    );
    gantry.write_file("shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n");
    gantry.write_file(
        "shop/templates/web.yaml",
        "kind: Pod\napiVersion: v1\nmetadata: {name: web}\nspec:\n  containers: [{name: web, image: 'akko.local/web:1'}]\n",
    );
    gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: a\ncharts: [{chart: ./shop}]\nimages: [{archive: akko-images.tar}]\n",
    );

    // No registry of that name exists: nothing but the archive is asked.
    gantry.run(["lock"]).assert_success();

    let lock = gantry.read_file("gantry.lock");
    let web =
        lock.split("- reference: ").find(|part| part.starts_with("akko.local/web:1")).unwrap();
    assert!(web.contains("archive: akko-images.tar"), "{web}");
    assert!(web.contains("by: gantry.yaml") && web.contains("by: shop"), "{web}");
}
