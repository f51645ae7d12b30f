//! The story of mistakes: each is told with the thing, the cause and the next step, before any work.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod story;

use std::process::Command;

use story::{SMALL, files, user};
use testkit::World;

#[test]
fn a_wrong_input_is_told_with_its_place_and_nothing_is_touched() {
    let world = World::fast();
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
        (format!("{SMALL}models: [{{url: ftp://x}}]\n"), "http(s)"),
        ("version: 1\nname: Bad Name\n".to_owned(), "is no name"),
    ] {
        let gantry = user(&world, &input);
        let failed = gantry.run(["lock"]).fails_with(2);
        assert!(failed.stderr.contains(expected), "{input}\n{}", failed.stderr);
        assert!(!gantry.folder().join("gantry.lock").exists());
    }
}

#[test]
fn several_mistakes_are_told_at_once() {
    let world = World::fast();
    let input = "version: 1\nname: x\nimages: [ghcr.io/a/b:1, ghcr.io/c/d:2]\nfiles: [nothing]\n";

    let failed = user(&world, input).run(["lock"]).fails_with(2);

    for thing in ["3 things", "ghcr.io/a/b:1", "ghcr.io/c/d:2", "nothing"] {
        assert!(failed.stderr.contains(thing), "{}", failed.stderr);
    }
}

#[test]
fn what_is_missing_names_the_command_that_makes_it() {
    let world = World::fast();
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
        let failed = gantry.run(&arguments).fails_with(2);
        assert!(failed.stderr.contains(next), "{arguments:?}: {}", failed.stderr);
    }
    assert!(files(gantry.store()).is_empty());
    // Locked, but nothing fetched yet.
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).success();
    let failed = gantry.run(["pack"]).fails_with(2);
    assert!(failed.stderr.contains("gantry fetch"), "{}", failed.stderr);
}

#[test]
fn an_unreachable_host_and_a_missing_helm_are_named() {
    let world = World::fast();
    let gantry = user(&world, "version: 1\nname: x\nimages: [\"127.0.0.1:1/a:1\"]\n");
    let failed = gantry.run(["lock"]).fails_with(2);
    assert!(
        failed.stderr.contains("127.0.0.1:1") && failed.stderr.contains("refused"),
        "{}",
        failed.stderr
    );

    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/umbrella");
    let gantry = user(&world, &format!("version: 1\nname: x\ncharts: [{{chart: {chart}}}]\n"));
    let failed = gantry.env("PATH", "/nowhere").run(["lock"]).fails_with(2);
    assert!(
        failed.stderr.contains("helm") && failed.stderr.contains("GANTRY_HELM"),
        "{}",
        failed.stderr
    );
}

#[test]
fn errors_are_json_where_results_are() {
    let world = World::fast();
    let gantry = world.gantry(story::BINARY);

    let failed = gantry.run(["lock", "--output", "json"]).fails_with(2);

    let error: serde_json::Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "usage");
    assert!(error["error"]["hints"][0].as_str().unwrap().contains("gantry init"));
}

#[test]
fn every_verb_has_help_with_examples_and_shells_take_the_completion() {
    let world = World::fast();
    let gantry = world.gantry(story::BINARY);
    let verbs = [
        "init",
        "lock",
        "plan",
        "fetch",
        "pack",
        "verify",
        "inspect",
        "load",
        "serve",
        "completion",
        "version",
    ];
    for verb in verbs {
        let help = gantry.run([verb, "--help"]).success().stdout;
        assert!(help.contains("Examples:"), "{verb}");
    }
    for verb in ["ls", "verify", "gc", "rm"] {
        let help = gantry.run(["store", verb, "--help"]).success().stdout;
        assert!(help.contains("Examples:"), "store {verb}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(gantry.run(["completion", shell]).success().stdout.contains("gantry"));
    }
    let script =
        gantry.write("complete.bash", &gantry.run(["completion", "bash"]).success().stdout);
    assert!(Command::new("bash").arg("-n").arg(script).status().unwrap().success());
    gantry.run::<&str>([]).fails_with(2);
}
