//! The fault proxy itself: what a client sees of each fault, and what the proxy records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Output;
use std::time::Duration;

use gantry_testkit::faults::{FaultRepeats, WireFault};
use gantry_testkit::{FaultProxy, MINILM, TestHub, TestImages, TestRegistry, tools};

const FILE: &str = "vocab.txt";
const SIZE: u64 = 231_508;

fn hub() -> (TestHub, FaultProxy, String) {
    let hub = TestHub::start();
    let faults = FaultProxy::in_front_of(&hub.url());
    let url = format!("{}/{MINILM}/resolve/main/{FILE}", faults.url());
    (hub, faults, url)
}

fn curl(arguments: &[&str]) -> Output {
    tools::tool_command("curl").args(["-sS"]).args(arguments).output().unwrap()
}

#[test]
fn a_cut_ends_the_body_where_it_was_told_and_the_rest_comes_by_range() {
    let (_hub, faults, url) = hub();
    faults.inject(FILE, WireFault::Cut { after: 100_000 }, FaultRepeats::Exactly(1));

    let cut = curl(&[&url]);
    let rest = curl(&["-r", "100000-", &url]);

    assert_eq!(cut.status.code(), Some(18), "curl: partial file");
    assert_eq!(cut.stdout.len(), 100_000);
    assert!(rest.status.success());
    let whole = [cut.stdout, rest.stdout].concat();
    assert_eq!(whole, std::fs::read(tools::model_folder().join(FILE)).unwrap());
    let requests = faults.requests();
    assert_eq!(requests.iter().map(|request| request.sent).sum::<u64>(), SIZE);
    assert_eq!(requests[1].range_start(), 100_000);
    assert_eq!(requests[1].status, Some(206));
    assert_eq!(faults.sent_bytes(FILE), SIZE);
}

#[test]
fn a_stall_sends_no_more_and_keeps_the_connection() {
    let (_hub, faults, url) = hub();
    faults.inject(FILE, WireFault::Stall { after: 1000 }, FaultRepeats::Always);

    let stalled = curl(&["--max-time", "1", &url]);

    assert_eq!(stalled.status.code(), Some(28), "curl: timed out");
    assert_eq!(stalled.stdout.len(), 1000);
}

#[test]
fn a_busy_server_says_when_to_come_again_and_then_answers() {
    let (_hub, faults, url) = hub();
    let busy = WireFault::Status { code: 429, retry_after: Some(Duration::from_secs(1)) };
    faults.inject(FILE, busy, FaultRepeats::Exactly(2));

    let file = tempfile::NamedTempFile::new().unwrap();
    let got = curl(&["--retry", "3", "-o", file.path().to_str().unwrap(), &url]);

    assert!(got.status.success());
    assert_eq!(file.path().metadata().unwrap().len(), SIZE);
    let statuses: Vec<_> = faults.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(429), Some(429), Some(200)]);
}

#[test]
fn a_liar_changes_one_byte() {
    let (_hub, faults, url) = hub();
    faults.inject(FILE, WireFault::Flip { at: 200_000 }, FaultRepeats::Exactly(1));

    let lie = curl(&[&url]).stdout;

    let truth = std::fs::read(tools::model_folder().join(FILE)).unwrap();
    let different: Vec<_> = (0..truth.len()).filter(|index| lie[*index] != truth[*index]).collect();
    assert_eq!(different, [200_000]);
}

#[test]
fn a_slow_line_takes_its_time_and_a_dropped_one_no_answer() {
    let (_hub, faults, url) = hub();
    faults.inject(FILE, WireFault::Slow { bytes_per_second: 500_000 }, FaultRepeats::Exactly(1));

    let slow = curl(&["-o/dev/null", "-w", "%{time_total}", &url]);
    faults.inject(FILE, WireFault::Drop, FaultRepeats::Exactly(1));
    let dropped = curl(&[&url]);

    let seconds: f64 = String::from_utf8_lossy(&slow.stdout).parse().unwrap();
    assert!((0.3..3.0).contains(&seconds), "{seconds} s for {SIZE} bytes");
    assert_eq!(dropped.status.code(), Some(52), "curl: empty reply");
    assert_eq!(faults.requests()[1].status, None);
}

#[test]
fn crane_pushes_and_pulls_through_the_proxy() {
    let images = TestImages::fast();
    let registry = TestRegistry::start();
    images.place_in_storage(registry.storage());
    let faults = FaultProxy::in_front_of(&registry.url());
    let name = |tag: &str| format!("{}/library/redis:{tag}", faults.host());

    tools::run_command(tools::tool_command("crane").args([
        "copy",
        "--insecure",
        &name("7.0"),
        &name("copy"),
    ]));
    let target = format!("{}/other/redis:7.0", faults.host());
    tools::run_command(tools::tool_command("crane").args([
        "copy",
        "--insecure",
        &name("7.0"),
        &target,
    ]));

    let digest =
        tools::run_command(tools::tool_command("crane").args(["digest", "--insecure", &target]));
    assert_eq!(digest.trim(), images.get("docker.io/library/redis:7.0").digest.to_string());
    assert!(faults.requests().iter().any(|request| request.method == "PUT"));
}
