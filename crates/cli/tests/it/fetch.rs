//! `gantry fetch`: every blob is downloaded once, whatever failures occur.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use crate::story::{INPUT, SMALL, files, user};
use testkit::faults::{FaultRepeats, WireFault};
use testkit::{
    FaultProxy, TestEnvironment, TestHub, TestImages, TestLogin, TestRegistry, Tmpfs, wait_until,
};

#[test]
fn two_fetches_at_once_on_one_store_both_end_well() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();

    let (one, two) = (gantry.start(["fetch"]), gantry.start(["fetch"]));
    assert_eq!(one.wait(), Some(0));
    assert_eq!(two.wait(), Some(0));

    gantry.run(["store", "verify"]).assert_success();
    let again = gantry.run(["fetch", "--output", "json"]).assert_success().parse_json();
    assert_eq!(again["fetchedBlobCount"], 0);
}

#[test]
fn cuts_stalls_rate_limits_and_failures_of_a_registry_are_outlived() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    let faults = FaultProxy::in_front_of(&world.upstream().url());
    world.set_mirrors(&faults.url(), &world.hub().url());
    faults.inject("/blobs/", WireFault::Cut { after: 1 << 20 }, FaultRepeats::Exactly(2));
    faults.inject(
        "/blobs/",
        WireFault::Status { code: 500, retry_after: None },
        FaultRepeats::Exactly(1),
    );
    faults.inject(
        "/manifests/",
        WireFault::Status { code: 429, retry_after: Some(Duration::from_secs(1)) },
        FaultRepeats::Exactly(1),
    );

    gantry.run(["fetch"]).assert_success();

    gantry.run(["store", "verify"]).assert_success();
}

#[test]
fn a_registry_that_lies_about_a_digest_is_named_and_nothing_of_it_is_kept() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    gantry.run(["lock"]).assert_success();
    let faults = FaultProxy::in_front_of(&world.upstream().url());
    world.set_mirrors(&faults.url(), &world.hub().url());
    faults.inject("/blobs/", WireFault::Flip { at: 0 }, FaultRepeats::Always);

    let before = files(gantry.store());

    let lied = gantry.run(["fetch"]).assert_exit_code(3);

    assert!(lied.stderr.contains("sent wrong content for"), "{}", lied.stderr);
    // What was not kept is this one's content; the hint is about everything else.
    assert!(lied.stderr.contains("everything else that was downloaded is kept"), "{}", lied.stderr);
    let kept: Vec<_> =
        files(gantry.store()).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(kept.iter().all(|(path, _)| !path.to_string_lossy().contains("/blobs/")), "{kept:?}");
    assert!(kept.iter().all(|(path, _)| !path.to_string_lossy().contains("/partial/")), "{kept:?}");
    world.set_mirrors(&world.upstream().url(), &world.hub().url());
    gantry.run(["fetch"]).assert_success();
    gantry.run(["store", "verify"]).assert_success();
}

#[test]
fn a_registry_that_fails_for_good_is_told_with_its_history_and_what_came_is_kept() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();
    let faults = FaultProxy::in_front_of(&world.upstream().url());
    world.set_mirrors(&faults.url(), &world.hub().url());
    let nginx = world.images().get("docker.io/library/nginx:1.22");
    let largest = nginx.blobs.iter().max_by_key(|(_, size)| **size).unwrap().0;
    faults.inject(
        &largest.to_string(),
        WireFault::Status { code: 500, retry_after: None },
        FaultRepeats::Always,
    );

    let failed = gantry.run(["fetch"]).assert_exit_code(4);

    for part in [nginx.repository(), "500", "times in", "gantry fetch"] {
        assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
    }
    faults.remove_faults();
    faults.forget_requests();
    gantry.run(["fetch"]).assert_success();
    let again: Vec<_> = faults.requests().into_iter().map(|request| request.path).collect();
    assert!(again.iter().all(|path| path.contains(&largest.to_string())), "{again:?}");
}

#[test]
fn a_registry_with_tls_and_a_password_is_read_with_docker_s_credential() {
    let login = TestLogin::new("anna", "secret");
    let world = TestEnvironment::from_parts(
        TestImages::fast(),
        TestRegistry::builder().tls().login(login),
        TestHub::builder().minilm(),
    );
    let gantry = user(&world, SMALL);
    let docker = world.home().join(".docker");

    gantry.run(["lock"]).assert_success();

    TestLogin::new("anna", "wrong").write_docker_config(&docker, world.upstream().host());
    let wrong = gantry.run(["fetch"]).assert_exit_code(2);
    assert!(wrong.stderr.contains("docker login"), "{}", wrong.stderr);
    fs::remove_dir_all(&docker).unwrap();
    for verb in ["fetch", "lock"] {
        let other = user(&world, SMALL).with_store(&world.home().join("other"));
        let lock = gantry.folder().join("gantry.lock");
        if verb == "lock" {
            fs::remove_file(lock).unwrap();
        }
        let refused = other.run([verb]).assert_exit_code(2);
        assert!(refused.stderr.contains("docker login"), "{verb}: {}", refused.stderr);
    }
    world.upstream().login().unwrap().write_docker_config(&docker, world.upstream().host());
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
}

#[test]
fn an_authority_is_given_by_the_configuration_or_the_environment_and_missed_by_name() {
    let world = TestEnvironment::from_parts(
        TestImages::fast(),
        TestRegistry::builder().tls(),
        TestHub::builder().minilm(),
    );
    let ca = world.upstream().ca_file().unwrap();
    let stranger = user(&world, SMALL).env("SSL_CERT_FILE", "/dev/null");

    let untrusted = stranger.run(["lock"]).assert_exit_code(2);
    let text = fs::read_to_string(world.config_file()).unwrap();
    let with_ca = text.replacen('{', &format!("{{\n  \"ca\": [\"{}\"],", ca.display()), 1);
    fs::write(world.config_file(), with_ca).unwrap();

    assert!(untrusted.stderr.contains("is not trusted"), "{}", untrusted.stderr);
    assert!(untrusted.stderr.contains("SSL_CERT_FILE"), "{}", untrusted.stderr);
    stranger.run(["lock"]).assert_success();
    stranger.run(["fetch"]).assert_success();
}

#[test]
fn a_full_disk_is_told_before_the_first_byte_and_goes_on_after_room_was_made() {
    let world = TestEnvironment::fast();
    let disk = Tmpfs::new(2 << 20);
    let gantry = user(&world, SMALL).with_store(&disk.path().join("store"));
    gantry.run(["lock"]).assert_success();

    let full = gantry.run(["fetch"]).assert_exit_code(1);

    assert!(full.stderr.contains("not enough space"), "{}", full.stderr);
    disk.resize(64 << 20);
    gantry.run(["fetch"]).assert_success();
    gantry.run(["store", "verify"]).assert_success();
}

#[test]
fn a_disk_that_fills_up_under_a_fetch_is_told_and_nothing_on_it_is_corrupt() {
    let world = TestEnvironment::fast();
    let disk = Tmpfs::new(128 << 20);
    let gantry = user(&world, INPUT).with_store(&disk.path().join("store"));
    gantry.run(["lock"]).assert_success();
    let hub = FaultProxy::in_front_of(&world.hub().url());
    hub.inject("/resolve/", WireFault::Slow { bytes_per_second: 60 << 20 }, FaultRepeats::Always);
    world.set_mirrors(&world.upstream().url(), &hub.url());

    let mut running = gantry.start(["fetch"]);
    wait_until("the weights come", || hub.sent_bytes("/resolve/") > 8 << 20);
    // Another process fills the disk after the fetch has checked the free space.
    let filler = disk.path().join("filler");
    let zeros = vec![0; 1 << 20];
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&zeros).is_ok() {}
    wait_until("the fetch has ended", || !running.is_running());

    let printed = running.printed_text();
    let code = running.wait();
    assert!([Some(1), Some(4)].contains(&code), "{code:?} {printed}");
    assert!(printed.contains("not enough space"), "{printed}");
    drop(file);
    fs::remove_file(filler).unwrap();
    gantry.run(["fetch"]).assert_success();
    gantry.run(["store", "verify"]).assert_success();
}

#[test]
fn ctrl_c_keeps_what_came_and_says_how_to_go_on() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, INPUT);
    gantry.run(["lock"]).assert_success();
    let hub = FaultProxy::in_front_of(&world.hub().url());
    hub.inject("/resolve/", WireFault::Stall { after: 4 << 20 }, FaultRepeats::Always);
    world.set_mirrors(&world.upstream().url(), &hub.url());

    let running = gantry.start(["fetch"]);
    while hub.sent_bytes("/resolve/") < 4 << 20 {
        std::thread::yield_now();
    }
    assert_eq!(running.interrupt(), Some(4));

    hub.remove_faults();
    gantry.run(["fetch"]).assert_success();
    gantry.run(["store", "verify"]).assert_success();
}

mod slow {
    use super::*;

    #[test]
    fn a_registry_that_goes_silent_is_asked_again() {
        let world = TestEnvironment::fast();
        let gantry = user(&world, SMALL);
        gantry.run(["lock"]).assert_success();
        let faults = FaultProxy::in_front_of(&world.upstream().url());
        world.set_mirrors(&faults.url(), &world.hub().url());
        faults.inject("/blobs/", WireFault::Stall { after: 100_000 }, FaultRepeats::Exactly(1));

        gantry.run(["fetch"]).assert_success();

        let resumed = faults.requests().into_iter().find(|request| request.range_start() > 0);
        assert!(resumed.is_some_and(|request| request.range_start() <= 100_000));
        gantry.run(["store", "verify"]).assert_success();
    }
}
