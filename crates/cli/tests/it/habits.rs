//! What users of other tools expect: diff, doctor, the configuration, manual pages, parts of a bundle, limits
//! and logs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::{Duration, Instant};

use crate::story::{INPUT, SMALL, alone, fetched, files, on_terminal, pack, text, user};
use testkit::TestEnvironment;
use testkit::json_schema::find_schema_errors;

#[test]
fn a_diff_of_locks_bundles_stores_and_receipts_says_what_a_bundle_would_add() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    fs::rename(gantry.folder().join("gantry.lock"), gantry.folder().join("new.lock")).unwrap();
    let without_nginx = INPUT.replace("  - docker.io/library/nginx:1.22\n", "");
    gantry.write_file("gantry.yaml", &without_nginx);
    gantry.run(["lock"]).assert_success();
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "32MiB");
    let bundle = text(media.path());
    let (site, receipt) =
        (world.site().host().to_owned(), text(&media.path().join("receipt.json")));
    gantry.run(["load", &bundle, "--to", &site, "--receipt", &receipt]).assert_success();

    let schema = gantry.run(["schema", "output-diff"]).assert_success().parse_json();
    for before in ["gantry.lock", &bundle, &receipt] {
        let diff = gantry.run(["diff", before, "new.lock", "--output", "json"]);
        let diff = diff.assert_success().parse_json();
        assert_eq!(find_schema_errors(&schema, &diff), [""; 0], "{diff:#}");
        let added = diff["addedItems"].as_array().unwrap();
        assert!(
            added.iter().any(|item| item["name"] == "docker.io/library/nginx:1.22"),
            "{diff:#}"
        );
        assert_eq!(
            (&diff["removedItems"], &diff["changedItems"]),
            (&serde_json::json!([]), &serde_json::json!([]))
        );
        assert!(diff["addedBytes"].as_u64().unwrap() > 1 << 20, "{diff:#}");
    }
    let table = gantry.run(["diff", "new.lock", "gantry.lock"]).assert_success().stdout;
    let is_removed = |line: &str| {
        line.starts_with('-') && line.contains("docker.io/library/nginx") && line.contains(" 1.22 ")
    };
    assert!(table.lines().any(is_removed), "{table}");
    let report = ["--report", "review.html", "--report", "review.json"];
    let diff = ["diff", "gantry.lock", "new.lock"];
    gantry.run(diff.iter().chain(&report)).assert_success();
    let page = gantry.read_file("review.html").replace("<wbr>", "");
    assert!(page.contains("docker.io/library/nginx") && page.contains("4 differences to review"));
    gantry.run(diff.iter().chain(&report)).assert_success();
    gantry.write_file("review.html", "mine");
    gantry.run(diff.iter().chain(&report)).assert_exit_code(2);
    gantry.run(["diff", "new.lock", &text(gantry.store()), "--exit-code"]).assert_success();
    gantry.run(["diff", "new.lock", "gantry.lock", "--exit-code"]).assert_exit_code(1);
    gantry.run(["diff", "new.lock", "gantry.yaml"]).assert_exit_code(2);
    gantry.run(["diff", "new.lock", "none.lock"]).assert_exit_code(2);
}

#[test]
fn a_part_of_a_bundle_is_found_and_loaded_and_a_dry_run_says_what_is_there() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "1GiB");
    let (bundle, site) = (text(media.path()), format!("{}/ai", world.site().host()));

    let found = gantry.run(["inspect", &bundle, "--find", "NGINX"]).assert_success().stdout;
    assert!(found.contains("library/nginx:1.22") && !found.contains("redis"), "{found}");

    let load = ["load", &bundle, "--to", &site];
    gantry.run([&load[..], &["--only", "ngnix"]].concat()).assert_exit_code(2);
    let only = [&load[..], &["--only", "nginx", "--output", "json"]].concat();
    let loaded = gantry.run(only).assert_success().parse_json();
    let names: Vec<&str> = loaded["roots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"docker.io/library/nginx:1.22"), "{names:?}");
    assert!(
        !names.iter().any(|name| name.contains("redis") || name.contains("minilm")),
        "{names:?}"
    );

    let dry = gantry.run([&load[..], &["--dry-run", "--output", "json"]].concat());
    let dry = dry.assert_success().parse_json();
    for row in dry["roots"].as_array().unwrap() {
        let is_there = row["outcome"] == "present";
        assert!(row["bytes"].as_u64().unwrap() > 0, "{row}");
        // docker-registry holds nginx with a rewritten index, so it is not there as it is in the bundle.
        assert!(!is_there || names.contains(&row["name"].as_str().unwrap()), "{row}");
    }
    assert!(dry["missingBytes"].as_u64().unwrap() > 1 << 20, "{dry:#}");
    // A target that cannot be asked is no failure of a dry run.
    let away = gantry.run(["load", &bundle, "--to", "127.0.0.1:1", "--dry-run"]).assert_success();
    assert!(away.stderr.contains("not known"), "{}", away.stderr);
}

#[test]
fn the_doctor_tells_what_will_not_do_and_no_secret() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    let well = gantry.run(["doctor", "--output", "json"]).assert_success().parse_json();
    let schema = gantry.run(["schema", "output-doctor"]).assert_success().parse_json();
    assert_eq!(find_schema_errors(&schema, &well), [""; 0], "{well:#}");
    let subjects: Vec<&str> = well["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["subject"].as_str().unwrap())
        .collect();
    for subject in
        ["helm", "store", "proxies", "ghcr.io", "credential of ghcr.io", "clock and ghcr.io"]
    {
        assert!(subjects.contains(&subject), "{subject} is missing in {subjects:?}");
    }

    let ill =
        gantry.env("PATH", "/nowhere").env("HTTPS_PROXY", "http://me:hunter2@proxy.corp:3128");
    let ill = ill.env("GANTRY_HELM", "/no/such/helm").run(["doctor", "--host", "127.0.0.1:1"]);
    let ill = ill.assert_exit_code(1);
    assert!(ill.stdout.contains("http://proxy.corp:3128"), "{}", ill.stdout);
    assert!(!(ill.stdout.clone() + &ill.stderr).contains("hunter2"), "{}", ill.stdout);
    assert!(ill.stderr.contains("helm") && ill.stderr.contains("127.0.0.1:1"), "{}", ill.stderr);
}

#[test]
fn the_configuration_in_effect_is_shown_with_where_it_is_from() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    fs::write(
        home.path().join("config.yaml"),
        "retries: 3\nmirrors: {docker.io: \"https://a:hunter2@m.corp\"}\n",
    )
    .unwrap();
    let gantry = gantry.env("HF_TOKEN", "hf_hunter2");
    let shown = gantry.run(["config", "show"]).assert_success().stdout;
    for part in ["GANTRY_STORE", "GANTRY_CONFIG", "https://m.corp", "set, not shown", "default"] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    let json = gantry.run(["config", "show", "--output", "json"]).assert_success().parse_json();
    let schema = gantry.run(["schema", "output-config-show"]).assert_success().parse_json();
    assert_eq!(find_schema_errors(&schema, &json), [""; 0], "{json:#}");
}

#[test]
fn manual_pages_are_read_by_man_and_written_for_every_command() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let page = gantry.run(["man", "store", "gc"]).assert_success().stdout;
    assert!(page.contains(".TH gantry-store-gc"), "{page}");
    gantry.run(["man", "nonsense"]).assert_exit_code(2);
    let folder = gantry.folder().join("man1");
    gantry.run(["man", "-o", &text(&folder)]).assert_success();
    assert!(folder.join("gantry.1").is_file() && folder.join("gantry-models-push.1").is_file());
    // Again, over its own pages; not over somebody else's.
    gantry.run(["man", "-o", &text(&folder)]).assert_success();
    fs::write(folder.join("gantry.1"), "mine").unwrap();
    gantry.run(["man", "-o", &text(&folder)]).assert_exit_code(2);
    gantry.run(["man", "-o", &text(&folder), "--force"]).assert_success();
}

#[test]
fn the_format_of_results_is_told_to_those_who_write_it_as_for_kubectl() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    for run in
        [&["version", "-o", "json"][..], &["plan", "-ojson"], &["relocate", "x", "-o", "json"]]
    {
        let told = gantry.run(run).assert_exit_code(2);
        assert!(told.stderr.contains("--output json"), "{}", told.stderr);
    }
    assert!(fs::read_dir(gantry.folder()).unwrap().next().is_none());
}

#[test]
fn a_log_file_has_one_json_object_per_line() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    let log = gantry.folder().join("gantry.log");
    let run = ["lock", "-vv", "--log-file", &text(&log), "--log-format", "json"];
    let quiet = gantry.run(run).assert_success();
    assert!(!quiet.stderr.contains("\"level\""), "{}", quiet.stderr);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().count() > 3, "{text}");
    for line in text.lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(message["level"].is_string() && message["timestamp"].is_string(), "{line}");
    }
    let refused = gantry.run(["lock", "--log-file", "none/gantry.log"]).assert_exit_code(2);
    assert!(refused.stderr.contains("--log-file"), "{}", refused.stderr);
}

#[test]
fn the_limits_of_transfers_are_kept() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    let lock = gantry.run(["lock", "--output", "json"]).assert_success().parse_json();
    let bytes = lock["bytes"].as_u64().unwrap();
    // What lock read already is not fetched again.
    let plan = gantry.run(["plan", "--output", "json"]).assert_success().parse_json();
    let missing = plan["missingBytes"].as_u64().unwrap();
    assert!(missing > 0 && missing <= bytes);
    let limit = (missing / 3).max(64 << 10);
    let started = Instant::now();
    gantry.run(["fetch", "--bandwidth", &limit.to_string()]).assert_success();
    let expected = Duration::from_millis(missing * 1000 / limit);
    assert!(
        started.elapsed() >= expected.mul_f64(0.8),
        "{:?} for {missing} bytes",
        started.elapsed()
    );

    for run in [["--bandwidth", "1KiB"], ["--retries", "0"], ["--timeout", "0s"]] {
        gantry.run([&["fetch"][..], &run].concat()).assert_exit_code(2);
    }
    // One attempt ends at once.
    world.set_mirrors("http://127.0.0.1:1", "http://127.0.0.1:1");
    fs::remove_dir_all(gantry.store()).unwrap();
    let started = Instant::now();
    let failed = gantry.run(["fetch", "--retries", "1"]);
    assert!(
        failed.code.is_some_and(|code| code != 0) && !failed.stderr.contains("times in"),
        "{}",
        failed.stderr
    );
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_would_be_deleted_is_asked_on_a_terminal() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let ask = |arguments: &str, answer: &str| {
        let (code, shown) = on_terminal(&gantry, arguments, &[answer]);
        assert!(shown.contains("[y/N]"), "{shown}");
        assert_eq!(shown.contains("nothing was changed"), code == 2, "{shown}");
        code
    };
    let names = || gantry.run(["store", "ls"]).assert_success().stdout;
    let remove = "store rm ghcr.io/gantry-examples/tools:1.0";
    assert_eq!(ask(remove, "n"), 2);
    assert!(names().contains("tools:1.0"));
    assert_eq!(ask(remove, "y"), 0);
    assert!(!names().contains("tools:1.0"));

    let blobs = || files(gantry.store()).iter().map(|(_, size)| size).sum::<u64>();
    let before = blobs();
    let collect = "store gc --older-than 0s";
    assert_eq!(ask(collect, ""), 2);
    assert_eq!(blobs(), before);
    assert_eq!(ask(collect, "yes"), 0);
    assert!(blobs() < before / 2);
    // Nothing is left to ask for, and --yes is not asked.
    let (code, shown) = on_terminal(&gantry, collect, &[]);
    assert!(code == 0 && !shown.contains("[y/N]"), "{shown}");
    let (code, shown) = on_terminal(&gantry, &format!("{remove} --yes"), &[]);
    assert!(code != 0 && !shown.contains("[y/N]"), "{shown}");
}

#[test]
fn a_bundle_is_not_written_to_a_terminal() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let (code, shown) = on_terminal(&gantry, "pack -o -", &[]);
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("a bundle is not written to a terminal"), "{shown}");
    assert!(shown.contains("-o DIR") && shown.len() < 1000, "{shown}");
    let (code, shown) = on_terminal(&gantry, "pack -o - --dry-run", &[]);
    assert!(code == 0 && shown.contains("planned"), "{shown}");
}
