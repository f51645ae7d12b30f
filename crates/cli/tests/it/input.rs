//! Mistakes in gantry.yaml: each is reported with the entry, the cause and the next step, before any work.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::story::{self, SMALL, files, user};
use testkit::TestEnvironment;

const TOOLS: &str = "ghcr.io/gantry-examples/tools:1.0";

#[test]
fn a_wrong_input_is_told_with_its_place_and_nothing_is_touched() {
    let world = TestEnvironment::fast();
    let mut wrong = Vec::new();
    for (input, expected) in [
        (
            SMALL.replace("images", "imgaes"),
            "gantry.yaml:3:1: unknown key \"imgaes\"; did you mean \"images\"?",
        ),
        (SMALL.replace("tools:1.0", "tools:9.9"), "has the tags 1.0"),
        (SMALL.replace("tools:1.0", "nothing:1"), "ghcr.io/gantry-examples/nothing:1"),
        (SMALL.replace("tools:1.0", "tools@sha256:12"), "64 lower-case hex digits"),
        (format!("{SMALL}platforms: [linux/s390x]\n"), "linux/s390x"),
        (format!("{SMALL}platforms: [s390x]\n"), "os/architecture"),
        (format!("{SMALL}models: [{{hf: no/such-model}}]\n"), "no/such-model"),
        (
            format!(
                "{SMALL}models: [{{hf: sentence-transformers/all-MiniLM-L6-v2, revision: nope}}]\n"
            ),
            "nope",
        ),
        (format!("{SMALL}charts: [{{chart: ./nothing}}]\n"), "nothing"),
        (format!("{SMALL}files: [./nothing.pdf]\n"), "nothing.pdf"),
        (format!("{SMALL}models: [{{url: ftp://x}}]\n"), "is not an http:// or https:// URL"),
        (format!("{SMALL}models: [{{url: \"http://127.0.0.1:1/x.gguf\"}}]\n"), "127.0.0.1:1"),
        (
            format!("{SMALL}models: [{{url: \"http://127.0.0.1:1/x\", sha256: abc}}]\n"),
            "64 lower-case hex digits",
        ),
        (format!("{SMALL}models: [{{ollama: \"tiny:3b\", folder: ./none}}]\n"), "none"),
        (format!("{SMALL}models: [{{hf: own/model, folder: ./none}}]\n"), "none"),
        (format!("{SMALL}models: [{{hf: own/model, cache: ./none}}]\n"), "none"),
        (
            format!("{SMALL}models: [{{image: \"{TOOLS}\", path: /no/such/folder}}]\n"),
            "/no/such/folder",
        ),
        (
            format!(
                "{SMALL}models: [{{hf: sentence-transformers/all-MiniLM-L6-v2, include: [\"*.gguf\"]}}]\n"
            ),
            "no file is left",
        ),
        (with_image("archive: none.tar"), "none.tar"),
        (with_image("archive: gantry.yaml"), "gantry.yaml"),
        (with_image("layout: ."), "layout"),
        (with_image("docker: /nowhere.sock"), "/nowhere.sock"),
        (format!("{SMALL}charts: [{{chart: oci://ghcr.io/charts/none}}]\n"), "ghcr.io/charts/none"),
        (
            format!("{SMALL}charts: [{{chart: \"http://127.0.0.1:1/stable\", name: x}}]\n"),
            "127.0.0.1:1",
        ),
        (format!("{SMALL}images: []\n"), "gantry.yaml:4:1"),
        (format!("{SMALL}files: {{}}\n"), "gantry.yaml:4"),
        ("version: 1\nname: [\n".to_owned(), "gantry.yaml:"),
        ("version: 9\nname: x\n".to_owned(), "version 9"),
        (String::new(), "gantry.yaml"),
        ("version: 1\nname: Bad Name\n".to_owned(), "is not a valid name"),
    ] {
        let gantry = user(&world, &input);
        let failed = gantry.run(["lock"]);
        // A host that cannot be reached may be so tomorrow.
        let code = if expected == "127.0.0.1:1" { 1 } else { 2 };
        let is_told = failed.code == Some(code) && failed.stderr.contains(expected);
        if !is_told || gantry.folder().join("gantry.lock").exists() {
            wrong.push(format!("{input}\n{:?} {}", failed.code, failed.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An input with an image from this machine, at the given place.
fn with_image(place: &str) -> String {
    format!("version: 1\nname: own\nimages: [{{image: \"own:1\", {place}}}]\n")
}

#[test]
fn several_mistakes_are_told_at_once() {
    let world = TestEnvironment::fast();
    let input = "version: 1\nname: x\nimages: [ghcr.io/a/b:1, ghcr.io/c/d:2]\nfiles: [nothing]\n";

    let failed = user(&world, input).run(["lock"]).assert_exit_code(2);

    for thing in ["3 items", "ghcr.io/a/b:1", "ghcr.io/c/d:2", "nothing"] {
        assert!(failed.stderr.contains(thing), "{}", failed.stderr);
    }
}

#[test]
fn what_is_missing_names_the_command_that_makes_it() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    for (arguments, next) in [
        (vec!["lock"], "gantry init"),
        (vec!["fetch"], "gantry lock"),
        (vec!["plan"], "gantry lock"),
        (vec!["pack"], "gantry lock"),
        (vec!["serve"], "gantry fetch"),
        (vec!["store", "ls"], "gantry fetch"),
        (vec!["verify", "nothing.gantry"], "no such file"),
        (vec!["load", "nothing.gantry", "--to", "127.0.0.1:1"], "no such file"),
    ] {
        let failed = gantry.run(&arguments).assert_exit_code(2);
        assert!(failed.stderr.contains(next), "{arguments:?}: {}", failed.stderr);
    }
    assert!(files(gantry.store()).is_empty());
    // Locked, but nothing fetched yet.
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    let failed = gantry.run(["pack"]).assert_exit_code(2);
    assert!(failed.stderr.contains("gantry fetch"), "{}", failed.stderr);
}

#[test]
fn an_unreachable_host_and_a_missing_helm_are_named() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, "version: 1\nname: x\nimages: [\"127.0.0.1:1/a:1\"]\n");
    let failed = gantry.run(["lock"]).assert_exit_code(1);
    assert!(
        failed.stderr.contains("127.0.0.1:1") && failed.stderr.contains("refused"),
        "{}",
        failed.stderr
    );

    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/umbrella");
    let gantry = user(&world, &format!("version: 1\nname: x\ncharts: [{{chart: {chart}}}]\n"));
    let failed = gantry.env("PATH", "/nowhere").run(["lock"]).assert_exit_code(2);
    assert!(
        failed.stderr.contains("helm") && failed.stderr.contains("GANTRY_HELM"),
        "{}",
        failed.stderr
    );
}
