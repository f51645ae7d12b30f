//! `gantry load` into the site's registry and stores: digests are the same there, and a second run copies
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use crate::story::{self, INPUT, SMALL, fetched, files, pack, text};
use testkit::faults::{FaultRepeats, WireFault};
use testkit::{FaultProxy, TestEnvironment, TestLogin, TestRegistry, Tmpfs, tools, wait_until};

#[test]
fn every_image_is_pulled_by_crane_with_its_digest_and_again_moves_nothing() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "32MiB");
    fs::remove_dir_all(gantry.store()).unwrap();
    let (site, from) = (world.site().host().to_owned(), text(media.path()));
    let to = format!("{site}/ai");
    let tmp = world.home().join("tmp");
    fs::create_dir(&tmp).unwrap();
    let gantry = gantry.env("TMPDIR", &tmp);
    let before = files(world.home());

    let first =
        gantry.run(["load", &from, "--to", &to, "--output", "json"]).assert_success().parse_json();

    assert_eq!(files(world.home()), before, "no second copy on the disk");
    assert!(first["transferredBytes"].as_u64().unwrap() > 90 << 20);
    for row in first["roots"].as_array().unwrap() {
        assert_eq!(row["outcome"], "loaded", "{row}");
        let target = row["target"].as_str().unwrap();
        let there = tools::run_command(tools::tool_command("crane").args(["digest", target]));
        // docker-registry refuses an index with a missing platform; the result then has the new digest.
        let digest = row.get("rewritten").unwrap_or(&row["digest"]);
        assert_eq!(there.trim(), digest, "{row}");
        if row["kind"] == "image" {
            let image = world.images().get(row["name"].as_str().unwrap());
            assert_eq!(row["digest"], image.digest.to_string());
            let platform = "--platform=linux/amd64";
            tools::run_command(
                tools::tool_command("crane").args(["validate", platform, "--remote", target]),
            );
        }
    }
    let again =
        gantry.run(["load", &from, "--to", &to, "--output", "json"]).assert_success().parse_json();
    assert_eq!(again["transferredBytes"], 0);
    assert!(again["roots"].as_array().unwrap().iter().all(|row| row["outcome"] == "present"));
}

#[test]
fn a_load_that_is_killed_or_refused_goes_on_and_what_landed_is_skipped() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let store = text(gantry.store());
    let faults = FaultProxy::in_front_of(&world.site().url());
    let load = ["load", &store, "--to", &faults.host()];

    let running = gantry.start(load);
    wait_until("something landed", || world.site().storage_bytes() > 4 << 20);
    running.kill();
    faults.inject(
        "/redis/manifests/",
        WireFault::Status { code: 403, retry_after: None },
        FaultRepeats::Always,
    );
    let part = gantry.run(load).assert_exit_code(4);
    assert!(part.stderr.contains("library/redis:7.0"), "{}", part.stderr);
    assert!(part.stderr.contains("403"), "{}", part.stderr);
    faults.remove_faults();
    let on = gantry.run([&load[..], &["--output", "json"]].concat()).assert_success().parse_json();

    let rows = on["roots"].as_array().unwrap().iter();
    let loaded: Vec<_> = rows.filter(|row| row["outcome"] == "loaded").collect();
    assert_eq!(loaded.len(), 1, "{loaded:?}");
    let name = "docker.io/library/redis:7.0";
    let target = format!("{}/library/redis:7.0", world.site().host());
    let digest = tools::run_command(tools::tool_command("crane").args(["digest", &target]));
    assert_eq!(digest.trim(), world.images().get(name).digest.to_string());
}

#[test]
fn a_load_that_is_stopped_sends_only_the_rest_of_a_large_blob_the_next_time() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let store = text(gantry.store());
    let load = ["load", &store, "--to", world.site().host(), "--output", "json"];

    let running = gantry.start(load);
    // The model has a file of 90 MB, which goes up in pieces of 16 MiB and more.
    wait_until("a part of it is there", || world.site().storage_bytes() > 40 << 20);
    assert_eq!(running.interrupt(), Some(4));
    let there = world.site().storage_bytes();
    let on = gantry.run(load).assert_success();

    let moved = on.parse_json()["transferredBytes"].as_u64().unwrap();
    let whole = world.site().storage_bytes();
    // A layer that two images share may go up once more for the second one.
    assert!(moved <= whole - there + (8 << 20), "{moved} of {whole} with {there} there");
    assert!(!on.stderr.contains("could not resume"), "{}", on.stderr);
    let uploads = world.home().join(".local/state/gantry/uploads");
    assert_eq!(fs::read_dir(uploads).unwrap().count(), 0, "nothing is left to go on with");
}

#[test]
fn a_site_that_is_not_there_or_no_registry_is_named_before_any_work() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let store = text(gantry.store());
    let web = story::Web::serve(gantry.folder());
    let no_registry = web.url().trim_start_matches("http://").to_owned();

    for (to, part, code) in [
        // The network's fault: another try may help.
        ("127.0.0.1:1/x", "127.0.0.1:1", 1),
        (no_registry.as_str(), no_registry.as_str(), 2),
        ("https://registry.example/x", "registry.example", 2),
        ("registry.example/UPPER", "UPPER", 2),
    ] {
        let failed = gantry.run(["load", &store, "--to", to]);
        let failed = failed.assert_exit_code(code);
        assert!(failed.stderr.contains(part), "{to}: {}", failed.stderr);
    }
    gantry.write_file("site.yaml", "version: 1\nregistry:\n  ulr: registry.internal\n");
    let site = text(&gantry.folder().join("site.yaml"));
    let failed = gantry.run(["load", &store, "--site", &site]).assert_exit_code(2);
    assert!(failed.stderr.contains("site.yaml:3:3"), "{}", failed.stderr);
    assert!(failed.stderr.contains("write one of url"), "{}", failed.stderr);
}

#[test]
fn a_full_disk_at_the_target_is_told_and_nothing_there_is_corrupt() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "1MiB");
    let disk = Tmpfs::new(2 << 20);
    let target = disk.path().join("store");
    let load = ["load", &text(media.path()), "--to", &text(&target)];

    let full = gantry.run(load).assert_exit_code(1);

    assert!(full.stderr.contains("not enough space"), "{}", full.stderr);
    disk.resize(64 << 20);
    gantry.run(load).assert_success();
    gantry.with_store(&target).run(["store", "verify"]).assert_success();
}

#[test]
fn an_index_with_platforms_left_out_is_kept_or_written_again_as_told() {
    let world = TestEnvironment::fast();
    let one = INPUT.replace("  - docker.io/library/redis:7.0\n", "");
    let gantry = fetched(&world, &one);
    let store = text(gantry.store());
    let load = |to: &str, policy: &str| {
        let to = format!("{}/{to}", world.site().host());
        gantry.run(["load", &store, "--to", &to, "--sparse", policy, "--output", "json"])
    };

    // docker-registry refuses a sparse index: the error says so, and what to do.
    let kept = load("keep", "keep").assert_exit_code(4);
    assert!(kept.stderr.contains("--sparse rewrite"), "{}", kept.stderr);
    let written = load("auto", "auto").assert_success();
    let rows = written.parse_json()["roots"].as_array().unwrap().clone();
    let nginx = rows.iter().find(|row| row["name"] == "docker.io/library/nginx:1.22").unwrap();
    let digest = nginx["rewritten"].as_str().unwrap();

    assert!(written.stderr.contains("it was rewritten"), "{}", written.stderr);
    let target = format!("{}/auto/library/nginx:1.22", world.site().host());
    let there = tools::run_command(tools::tool_command("crane").args(["digest", &target]));
    assert_eq!(there.trim(), digest);
    tools::run_command(tools::tool_command("crane").args([
        "pull",
        "--platform",
        "linux/amd64",
        &target,
        "/dev/null",
    ]));
}

#[test]
fn all_platforms_keep_the_index_and_its_signature_valid() {
    let world = TestEnvironment::fast();
    let input = "version: 1\nname: all\nplatforms: [linux/amd64, linux/arm64]\nimages: [docker.io/library/nginx:1.22]\n";
    let gantry = fetched(&world, input);
    let receipt = gantry.folder().join("receipt.json");
    let to = world.site().host().to_owned();

    gantry
        .run(["load", &text(gantry.store()), "--to", &to, "--receipt", &text(&receipt)])
        .assert_success();

    let image = world.images().get("docker.io/library/nginx:1.22");
    let target = format!("{to}/library/nginx:1.22");
    let digest = tools::run_command(tools::tool_command("crane").args(["digest", &target]));
    assert_eq!(digest.trim(), image.digest.to_string());
    let tags = tools::run_command(
        tools::tool_command("crane").args(["ls", &format!("{to}/library/nginx")]),
    );
    assert!(tags.contains(&format!("sha256-{}.sig", image.digest.hex())), "{tags}");
    let list = tools::run_command(
        tools::tool_command("regctl")
            .args(["artifact", "list", &target])
            .args(["--host", &format!("reg={to},tls=disabled")]),
    );
    assert!(list.contains("spdx"), "{list}");
    assert!(fs::read_to_string(receipt).unwrap().contains(&image.digest.to_string()));
}

#[test]
fn a_site_with_tls_and_a_password_takes_it_and_a_stranger_is_refused_first() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let site = TestRegistry::builder().tls().login(TestLogin::new("anna", "secret")).start();
    let (ca, store) = (text(&site.ca_file().unwrap()), text(gantry.store()));
    let to = format!("{}/x", site.host());

    let stranger = gantry.run(["load", &store, "--to", &to, "--ca", &ca]).assert_exit_code(2);
    assert!(stranger.stderr.contains("docker login"), "{}", stranger.stderr);
    site.login().unwrap().write_docker_config(&world.home().join(".docker"), site.host());
    let file = format!("version: 1\nregistry:\n  url: {to}\n  ca: {ca}\n");
    gantry.write_file("site.yaml", &file);

    gantry
        .run(["load", &store, "--site", &text(&gantry.folder().join("site.yaml"))])
        .assert_success();
}

#[test]
fn names_that_would_collide_and_dry_runs_push_nothing() {
    let world = TestEnvironment::fast();
    let input = INPUT.replace("quay.io/gantry-examples/dns:2.90", "quay.io/opstree/redis:v7.0.15");
    let gantry = fetched(&world, &input);
    let store = text(gantry.store());
    let to = format!("{}/x", world.site().host());

    let collision =
        gantry.run(["load", &store, "--to", &to, "--naming", "name"]).assert_exit_code(2);
    gantry.run(["load", &store, "--to", &to, "--dry-run"]).assert_success();

    assert!(collision.stderr.contains("use the naming path"), "{}", collision.stderr);
    let catalog =
        tools::run_command(tools::tool_command("crane").args(["catalog", world.site().host()]));
    assert_eq!(catalog.trim(), "");
}

#[test]
fn a_store_folder_is_a_target_that_skopeo_reads() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, &media.path().join("volumes"), "1MiB");
    let target = media.path().join("store");

    gantry
        .run(["load", &text(&media.path().join("volumes")), "--to", &text(&target)])
        .assert_success();

    let source = format!("oci:{}:ghcr.io/gantry-examples/tools:1.0", target.display());
    tools::run_command(tools::tool_command("skopeo").args(["inspect", &source]));
    gantry.with_store(&target).run(["store", "verify"]).assert_success();
}
