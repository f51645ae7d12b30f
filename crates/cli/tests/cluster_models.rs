//! The story of models in a cluster: into claims, over the API server and from the site's registry,
//! killed on the way, checked long after, and read by pods.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod seeding;
mod story;

use seeding::{Site, WEIGHTS, sum};

const HOME: &str = "models--sentence-transformers--all-MiniLM-L6-v2";

#[test]
fn two_consumers_share_one_claim_or_have_one_each_and_read_the_model() {
    let site = Site::new("seed-onyx");
    let shared = ["--create", "--access-mode", "RWX", "--storage-class", "shared-path", "--output", "json"];
    let own = ["--to", &site.claim("inference"), "--create", "--output", "json"];

    // The registry has no models yet: all comes over the API server, and it is said why.
    let first = site.gantry.run(site.push(&site.claim("index"), &own)).success();
    site.load();
    let second = site.gantry.run(site.push(&site.claim("shared"), &shared)).success().json();

    assert!(first.stderr.contains("over the API server instead"), "{}", first.stderr);
    for target in [0, 1] {
        assert_eq!(first.json()["targets"][target]["via"], "api");
        assert_eq!(first.json()["targets"][target]["isMade"], true);
    }
    assert_eq!(second["targets"][0]["via"], "registry");
    assert_eq!(site.seeders(), [""; 0]);
    let script = format!("for v in index inference shared; do sha256sum /$v/{HOME}/snapshots/*/{WEIGHTS}; cat /$v/{HOME}/refs/main; echo; done");
    let read = site.reads(&["index", "inference", "shared"], &script);
    assert_eq!(read.matches(&sum(WEIGHTS)).count(), 3, "{read}");

    let again = site.gantry.run(site.push(&site.claim("shared"), &["--output", "json"])).success();
    assert_eq!(again.json()["targets"][0]["models"][0]["put"], "present");
    assert_eq!(again.json()["targets"][0]["via"], "none");
}
