//! The air gap and the full disk: what the kernel makes of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::ErrorKind;

use gantry_testkit::{
    PodmanService, TestImages, TestRegistry, Tmpfs, loopback_only_command, tools,
};

#[test]
fn a_command_in_the_gap_has_loopback_and_nothing_else() {
    let outside = TestRegistry::start();
    let script = r#"ip -o link | cut -d: -f2; ip route; curl -s "$1" || echo "curl: $?""#;

    let said =
        tools::run_command(loopback_only_command("sh").args(["-c", script, "sh", &outside.url()]));

    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(lines, ["lo", "curl: 7"], "no other link, no route, and not this loopback");
}

#[test]
fn a_small_disk_is_soon_full_and_has_room_again() {
    let disk = Tmpfs::new(1 << 20);
    let file = disk.path().join("file");

    let full = fs::write(&file, vec![1; 2 << 20]).unwrap_err();
    disk.resize(4 << 20);

    assert_eq!(full.kind(), ErrorKind::StorageFull);
    fs::write(&file, vec![1; 2 << 20]).unwrap();
}

#[test]
fn an_engine_has_the_image_that_was_loaded_into_it() {
    let engine = PodmanService::start();
    engine.load_image(&TestImages::fast(), "docker.io/library/nginx:1.22");

    let image = "docker-daemon:docker.io/library/nginx:1.22";
    let host = format!("unix://{}", engine.socket().display());
    let config = tools::run_command(tools::tool_command("skopeo").args([
        "inspect",
        "--config",
        "--daemon-host",
        &host,
        image,
    ]));

    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["Cmd"][0], "nginx");
    assert_eq!(config["architecture"], "amd64");
}
