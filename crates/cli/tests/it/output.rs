//! What scripts rely on: JSON results and errors with stable keys, exit codes, completions, and help texts
//! with examples.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use crate::story::{self, SMALL, text, user};
use serde_json::Value;
use testkit::TestEnvironment;

#[test]
fn results_are_json_with_keys_that_stay() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    let media = tempfile::tempdir().unwrap();
    let folder = text(media.path());
    let json = |arguments: &[&str]| {
        gantry.run([arguments, &["--output", "json"]].concat()).assert_success().parse_json()
    };

    assert_keys(
        &json(&["lock"]),
        "blobCount bytes changed chartCount file fileCount imageCount modelCount",
    );
    let plan = json(&["plan"]);
    assert_keys(&plan, "blobCount bundleBytes bytes missingBytes name presentBytes roots");
    assert_keys(&plan["roots"][0], "bytes kind missingBytes name namedBy ownBytes");
    let fetched = json(&["fetch"]);
    assert_keys(
        &fetched,
        "fetchedBlobCount fetchedBytes presentBlobCount presentBytes rootCount store",
    );
    let packed = json(&["pack", "-o", &folder]);
    assert_keys(&packed, "bundle bytes dryRun files manifest");
    assert_keys(&packed["files"][0], "bytes file outcome");
    let verified = json(&["verify", &folder]);
    assert_keys(&verified, "files missingFiles");
    assert_keys(&verified["files"][0], "bundle bytes count damages file intact number");
    let inspected = json(&["inspect", &folder]);
    assert_keys(&inspected, "bundle fileCount missingFiles roots");
    assert_keys(&inspected["roots"][0], "bytes complete digest kind name namedBy");
    let loaded = json(&["load", &folder, "--to", world.site().host()]);
    assert_keys(&loaded, "dryRun roots target transferredBytes");
    assert_keys(&loaded["roots"][0], "digest kind name outcome target");
    assert_keys(&json(&["store", "ls"])["roots"][0], "bytes digest kind name");
    assert_keys(
        &json(&["store", "verify"]),
        "blobCount bytes damagedBlobs incompleteRoots rootCount",
    );
    assert_keys(
        &json(&["store", "gc"]),
        "blobBytes blobCount bytes dryRun keptBlobBytes keptBlobCount keptPartialBytes keptPartialCount \
         olderThanSeconds partialBytes partialCount",
    );
    assert!(json(&["version"]).is_object());

    let mut depot = gantry.start(["serve", "--listen", "127.0.0.1:0", "--output", "json"]);
    let url = depot.wait_for_word_after("\"url\": \"");
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
}

#[test]
fn errors_are_json_on_stderr_where_results_are_json() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);

    let failed = gantry.run(["lock", "--output", "json"]).assert_exit_code(2);

    let error: Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_keys(&error["error"], "hints kind message");
    assert_eq!(error["error"]["kind"], "usage");
    assert!(error["error"]["hints"][0].as_str().unwrap().contains("gantry init"));
    assert_eq!(failed.stdout, "");
    // Also if the work had begun, and other lines were printed before.
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    world.set_mirrors("http://127.0.0.1:1", "http://127.0.0.1:1");
    let failed = gantry.run(["fetch", "--output", "json"]);
    assert_ne!(failed.code, Some(0));
    let lines: Vec<&str> = failed.stderr.lines().collect();
    let start = lines.iter().position(|line| line.starts_with('{')).unwrap();
    let error: Value = serde_json::from_str(&lines[start..].join("\n")).unwrap();
    assert_keys(&error["error"], "hints kind message");
}

#[test]
fn every_verb_has_help_with_examples() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let verbs = verbs(&gantry.run(["--help"]).assert_success().stdout);
    assert!(verbs.len() >= 12, "{verbs:?}");
    for verb in verbs {
        let help = gantry.run([verb.as_str(), "--help"]).assert_success().stdout;
        // A group (`store`, `models`) has subcommands.
        if help.contains("\nCommands:\n") {
            for own in self::verbs(&help) {
                let help = gantry.run([verb.as_str(), &own, "--help"]).assert_success().stdout;
                assert!(help.contains("Examples:"), "{verb} {own}: {help}");
            }
        } else {
            assert!(help.contains("Examples:"), "{verb}: {help}");
        }
    }
}

#[test]
fn shells_take_the_completions_and_usage_errors_exit_2() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    for shell in ["bash", "zsh", "fish"] {
        let script = gantry.run(["completion", shell]).assert_success().stdout;
        assert!(script.contains("gantry") && script.contains("file-size"), "{shell}");
        if shell == "bash" {
            let file = gantry.write_file("complete.bash", &script);
            assert!(Command::new("bash").arg("-n").arg(file).status().unwrap().success());
        }
    }
    for arguments in [
        &[][..],
        &["nonsense"],
        &["pack", "--nonsense"],
        &["pack", "--file-size", "many"],
        &["fetch", "--concurrency", "0"],
        &["load", "x.gantry"],
        &["lock", "--check", "--upgrade"],
        &["-C", "/nowhere", "lock"],
        &["--config", "/nowhere", "lock"],
        &["--output", "xml", "version"],
    ] {
        let failed = gantry.run(arguments).assert_exit_code(2);
        assert_eq!(failed.stdout, "", "{arguments:?}");
        assert!(!failed.stderr.is_empty(), "{arguments:?}");
    }
}

/// Asserts that an object has exactly these keys, in alphabetical order.
#[track_caller]
fn assert_keys(value: &Value, keys: &str) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found.join(" "), keys);
}

/// The subcommands that a help text lists.
fn verbs(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("Commands:\n").unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|verb| verb != "help")
        .collect()
}
