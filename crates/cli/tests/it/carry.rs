//! Bundle files: identical for the same input, readable with ordinary tools, and every damage is found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use crate::story::{INPUT, SMALL, fetched, files, joined, on_terminal, pack, text, user, volumes};
use testkit::{TestEnvironment, Tmpfs, tools};

#[test]
fn volumes_are_the_same_each_time_and_plain_tools_read_them() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));

    let first = pack(&gantry, &one, "16MiB");
    let second = pack(&gantry, &two, "16MiB");

    assert!(first.len() > 4, "{first:?}");
    for (first, second) in first.iter().zip(&second) {
        assert!(fs::read(first).unwrap() == fs::read(second).unwrap(), "{first:?}");
    }
    // With tar, and `cat` for blobs split over several files, they become an OCI layout for skopeo.
    let layout = joined(&first, &folder.path().join("layout"));
    // (In a layout, skopeo finds only OCI manifests by name, not docker's.)
    let name = "quay.io/gantry-examples/dns:2.90";
    let source = format!("oci:{}:{name}", layout.display());
    let target = format!("oci:{}:redis", folder.path().join("copy").display());
    tools::run_command(tools::tool_command("skopeo").args(["copy", "--quiet", &source, &target]));
    let raw = tools::run_command(tools::tool_command("skopeo").args(["inspect", "--raw", &source]));
    let digest = world.images().get(name).digest;
    assert_eq!(
        fs::read_to_string(layout.join(format!("blobs/sha256/{}", digest.hex()))).unwrap().trim(),
        raw.trim()
    );
}

#[test]
fn a_bundle_goes_through_a_pipe_as_one_volume_with_the_same_bytes_as_a_file() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let folder = tempfile::tempdir().unwrap();
    gantry.run(["pack", "-o", &text(folder.path())]).assert_success();
    let file = volumes(folder.path()).remove(0);
    let piped = folder.path().join("piped");

    let output = gantry.command(["pack", "-o", "-"]).output().unwrap();
    assert!(output.status.success());
    fs::write(&piped, output.stdout).unwrap();

    assert!(fs::read(&piped).unwrap() == fs::read(&file).unwrap());
    gantry.run(["verify", &text(&piped)]).assert_success();
    let two = gantry.run(["pack", "-o", "-", "--file-size", "1MiB"]).assert_exit_code(2);
    assert!(two.stderr.contains("leave out --file-size"), "{}", two.stderr);
    assert_eq!(two.stdout, "");
}

#[test]
fn a_store_that_went_bad_is_noticed_by_the_pack_and_mended_as_it_says() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let blobs = files(&gantry.store().join("blobs"));
    let (largest, _) = blobs.iter().max_by_key(|(_, size)| *size).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest, bytes).unwrap();
    let out = tempfile::tempdir().unwrap();

    let bad = gantry.run(["pack", "-o", &text(out.path())]).assert_exit_code(3);

    assert!(bad.stderr.contains("gantry store verify"), "{}", bad.stderr);
    assert!(volumes(out.path()).is_empty(), "no volume that is not whole has its name");
    let told = gantry.run(["store", "verify"]).assert_exit_code(3);
    assert!(told.stderr.contains("--remove"), "{}", told.stderr);
    gantry.run(["store", "verify", "--remove"]).assert_exit_code(3);
    gantry.run(["fetch"]).assert_success();
    pack(&gantry, out.path(), "1GiB");
    gantry.run(["store", "verify"]).assert_success();
}

#[test]
fn each_volume_is_checked_alone_and_all_that_is_wrong_is_named() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let folder = tempfile::tempdir().unwrap();
    let set = pack(&gantry, folder.path(), "32MiB");
    let verify = |path: &std::path::Path| gantry.run(["verify", &text(path)]);

    verify(&set[1]).assert_success();
    gantry.run(["verify", &text(folder.path())]).assert_success();
    // A folder stands for the bundle: one of its files that is missing is no success.
    let away = folder.path().join("away");
    fs::rename(&set[1], &away).unwrap();
    let lacking = gantry.run(["verify", &text(folder.path())]).assert_exit_code(4);
    assert!(lacking.stderr.contains("file 2"), "{}", lacking.stderr);
    verify(&set[0]).assert_success();
    fs::rename(&away, &set[1]).unwrap();

    let whole = fs::read(&set[1]).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&set[1], &flipped).unwrap();
    let damaged = verify(&set[1]).assert_exit_code(3);
    assert!(damaged.stdout.contains("is damaged"), "{}", damaged.stdout);
    fs::write(&set[1], &whole[..whole.len() - 1000]).unwrap();
    let cut = verify(&set[1]).assert_exit_code(3);
    assert!(cut.stdout.contains("cut") || cut.stdout.contains("end record"), "{}", cut.stdout);
    fs::write(&set[1], &whole).unwrap();

    // Nothing damaged is written to any target.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&set[1], &damaged).unwrap();
    let target = folder.path().join("store");
    for to in [&text(&target), world.site().host()] {
        let bad = gantry.run(["load", &text(folder.path()), "--to", to]).assert_exit_code(3);
        assert!(bad.stderr.contains("gantry verify"), "{}", bad.stderr);
    }
    gantry.clone().with_store(&target).run(["store", "verify"]).assert_success();
    fs::write(&set[1], &whole).unwrap();
    gantry.run(["load", &text(folder.path()), "--to", &text(&target)]).assert_success();

    // Loading and serving need all files of one bundle.
    let missing = gantry.run(["load", &text(&set[0]), "--to", "./out"]).assert_exit_code(2);
    assert!(missing.stderr.contains(".0002.gantry"), "{}", missing.stderr);
    let other = fetched(&world, &SMALL.replace("small", "other"));
    let foreign = pack(&other, &folder.path().join("other"), "1GiB");
    let mixed = gantry.run(["verify", &text(&set[0]), &text(&foreign[0])]).assert_exit_code(2);
    assert!(mixed.stderr.contains("another bundle"), "{}", mixed.stderr);
    let nothing = gantry.run(["verify", "/etc/hostname"]).assert_exit_code(2);
    assert!(nothing.stdout.contains("is not a Gantry bundle file"), "{}", nothing.stdout);
}

#[test]
fn inspect_shows_what_is_in_it_and_the_lock_that_it_was_packed_from() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let folder = tempfile::tempdir().unwrap();
    let set = pack(&gantry, folder.path(), "1GiB");

    let lock = gantry.run(["inspect", "--lock", &text(&set[0])]).assert_success().stdout;
    let contents = gantry
        .run(["inspect", &text(folder.path()), "--output", "json"])
        .assert_success()
        .parse_json();

    assert_eq!(lock.trim(), gantry.read_file("gantry.lock").trim());
    assert_eq!(contents["roots"][0]["name"], "ghcr.io/gantry-examples/tools:1.0");
    assert_eq!(contents["roots"][0]["complete"], true);
}

#[test]
fn a_killed_pack_goes_on_and_a_full_disk_is_told_first() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let disk = Tmpfs::new(256 << 20);
    let out = disk.path().join("out");
    let arguments =
        ["pack".to_owned(), "-o".into(), text(&out), "--file-size".into(), "4MiB".into()];

    let running = gantry.start(&arguments);
    while !out.exists() || volumes(&out).len() < 3 {
        std::thread::yield_now();
    }
    running.kill();
    gantry.run(&arguments).assert_success();
    gantry.run(["verify", "--quiet", &text(&out)]).assert_success();

    let small = Tmpfs::new(8 << 20);
    let full = gantry.run(["pack", "-o", &text(&small.path().join("out"))]).assert_exit_code(1);
    assert!(full.stderr.contains("not enough space"), "{}", full.stderr);
}

#[test]
fn a_plan_tells_what_comes_and_touches_nothing() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    let before = files(gantry.store());

    let plan = gantry.run(["plan", "--output", "json"]).assert_success().parse_json();
    assert!(plan["missingBytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(files(gantry.store()), before);
    gantry.run(["fetch"]).assert_success();
    let plan = gantry
        .run(["plan", "--file-size", "1MiB", "--output", "json"])
        .assert_success()
        .parse_json();
    let folder = tempfile::tempdir().unwrap();
    let dry = gantry
        .run([
            "pack",
            "--dry-run",
            "--file-size",
            "1MiB",
            "-o",
            &text(folder.path()),
            "--output",
            "json",
        ])
        .assert_success()
        .parse_json();

    let all = dry["bytes"].as_u64().unwrap();
    assert_eq!(dry["missingBytes"].as_u64(), Some(all));
    assert!(all > 1 << 20, "{dry:#}");
    assert_eq!(plan["missingBytes"], 0);
    assert_eq!(plan["fileCount"].as_u64().unwrap(), dry["files"].as_array().unwrap().len() as u64);
    assert!(volumes(folder.path()).is_empty());
}

#[test]
fn a_bundle_goes_over_several_disks_and_comes_from_them() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let size = ["pack", "--file-size", "256KiB", "--output", "json"];
    let dry = gantry.run([&size[..], &["--dry-run"]].concat()).assert_success().parse_json();
    let whole = dry["bytes"].as_u64().unwrap();
    let disks: Vec<Tmpfs> = (0..3).map(|_| Tmpfs::new(whole / 2)).collect();
    let paths: Vec<String> = disks.iter().map(|disk| text(disk.path())).collect();
    let out: Vec<&str> = paths.iter().flat_map(|path| ["-o", path]).collect();

    // All room is looked at before the first byte.
    let full = gantry.run([&size[..], &out[..2]].concat()).assert_exit_code(1);
    assert!(full.stderr.contains("not enough space"), "{}", full.stderr);
    assert!(full.stderr.contains("-o DISK -o DISK2"), "{}", full.stderr);
    let dry = gantry.run([&size[..], &out, &["--dry-run"]].concat()).assert_success().parse_json();
    assert!(paths.iter().all(|path| volumes(path.as_ref()).is_empty()));
    let packed = gantry.run([&size[..], &out].concat()).assert_success().parse_json();
    let list = |result: &serde_json::Value| -> Vec<String> {
        let files = result["files"].as_array().unwrap().iter();
        files.map(|file| file["file"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(&packed), list(&dry));
    assert!(paths.iter().filter(|path| !volumes(path.as_ref()).is_empty()).count() >= 2);
    let again =
        gantry.run([&size[..], &out, &["--dry-run"]].concat()).assert_success().parse_json();
    assert_eq!(again["missingBytes"], 0, "{again:#}");
    assert!(again["files"].as_array().unwrap().iter().all(|file| file["outcome"] == "kept"));

    // Several folders are one bundle; what is missing is named by file name and number.
    let used: Vec<&str> = paths
        .iter()
        .map(String::as_str)
        .filter(|path| !volumes(path.as_ref()).is_empty())
        .collect();
    gantry.run([&["verify", "--quiet"], &used[..]].concat()).assert_success();
    let store = text(&gantry.folder().join("target"));
    let load = [&["load"], &used[..], &["--to", &store]].concat();
    gantry.run(load).assert_success();
    let last = volumes(used[1].as_ref());
    let name = last[0].file_name().unwrap().to_str().unwrap();
    let number: u32 = name.rsplit('.').nth(1).unwrap().parse().unwrap();
    let lacking = gantry.run(["verify", used[0]]).assert_exit_code(4).stderr;
    assert!(lacking.contains(&format!("{name} (file {number})")), "{lacking}");
    for verb in [&["load", used[0], "--to", "./other"][..], &["serve", used[0]]] {
        let lacking = gantry.run(verb).assert_exit_code(2).stderr;
        assert!(lacking.contains(name), "{lacking}");
    }

    for wrong in [&["-o", "a", "-o", "b"][..], &["-o", "-", "-o", "b", "--file-size", "1MiB"]] {
        gantry.run([&["pack"], wrong].concat()).assert_exit_code(2);
    }
}

#[test]
fn on_a_terminal_the_next_disk_is_asked_for() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, SMALL);
    let dry = ["pack", "--file-size", "256KiB", "--output", "json", "--dry-run"];
    let whole = gantry.run(dry).assert_success().parse_json()["bytes"].as_u64().unwrap();
    let (one, two) = (Tmpfs::new(whole * 2 / 3), Tmpfs::new(whole * 2 / 3));
    let (first, second) = (text(one.path()), text(two.path()));
    let pack = format!("pack -o {first} --file-size 256KiB");

    // Enter alone: the same folder is as full as before, so it is asked for again. Then q.
    let (code, shown) = on_terminal(&gantry, &pack, &["", "q"]);
    assert_eq!(code, 1, "{shown}");
    assert_eq!(shown.matches("(q stops)").count(), 2, "{shown}");
    assert!(shown.contains("not enough space") && shown.contains(" files ("), "{shown}");
    let begun = volumes(one.path());
    assert!(!begun.is_empty());

    // What was finished is kept, and the rest goes to the other disk.
    let (code, shown) = on_terminal(&gantry, &pack, &["/dev/null", &second]);
    assert_eq!(code, 0, "{shown}");
    assert_eq!(volumes(one.path()), begun);
    gantry.run(["verify", "--quiet", &first, &second]).assert_success();
}
