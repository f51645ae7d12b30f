//! Models in a cluster's claims and on nodes' disks: pushed through the API server and from the site's
//! registry, with pushes killed, verified afterwards, and read by pods.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::story;
use crate::support::seeding::{Site, WEIGHTS, sum};
use testkit::wait_until;

const HOME: &str = "models--sentence-transformers--all-MiniLM-L6-v2";

#[test]
fn two_consumers_share_one_claim_or_have_one_each_and_read_the_model() {
    let site = Site::new("seed-onyx");
    let shared =
        ["--create", "--access-mode", "RWX", "--storage-class", "shared-path", "--output", "json"];
    let own = ["--to", &site.claim("inference"), "--create", "--output", "json"];

    // The registry has no models yet, so everything goes through the API server, with a message why.
    let first = site.gantry.run(site.push(&site.claim("index"), &own)).assert_success();
    site.load();
    let second =
        site.gantry.run(site.push(&site.claim("shared"), &shared)).assert_success().parse_json();

    assert!(first.stderr.contains("over the API server instead"), "{}", first.stderr);
    for target in [0, 1] {
        assert_eq!(first.parse_json()["targets"][target]["via"], "api");
        assert_eq!(first.parse_json()["targets"][target]["created"], true);
    }
    assert_eq!(second["targets"][0]["via"], "registry");
    assert_eq!(site.seeders(), [""; 0]);
    // A pod for each claim: the volumes of local-path may be on different nodes.
    for claim in ["index", "inference", "shared"] {
        let script = format!(
            "sha256sum /{claim}/{HOME}/snapshots/*/{WEIGHTS}; cat /{claim}/{HOME}/refs/main"
        );
        let read = site.reads(&[claim], &script);
        assert_eq!(read.matches(&sum(WEIGHTS)).count(), 1, "{read}");
    }

    // The same with the targets of site.yaml: existing claims are kept, missing ones are created.
    let text = site.gantry.read_file("site.yaml");
    let models = format!(
        "models:\n- to: {}\n- to: {}\n  layout: flat\n  create: {{accessMode: RWX, storageClass: shared-path}}\n",
        site.claim("shared"),
        site.claim("made")
    );
    site.gantry.write_file("site.yaml", &format!("{text}{models}"));
    let store = story::text(site.gantry.store());
    let loaded = site.gantry.run(["load", &store, "--site", "site.yaml", "--output", "json"]);
    let loaded = loaded.assert_success().parse_json();
    assert_eq!(loaded["targets"][0]["models"][0]["outcome"], "present");
    assert_eq!(loaded["targets"][1]["created"], true);
    assert_eq!(loaded["targets"][1]["via"], "registry");

    let again =
        site.gantry.run(site.push(&site.claim("shared"), &["--output", "json"])).assert_success();
    assert_eq!(again.parse_json()["targets"][0]["models"][0]["outcome"], "present");
    assert_eq!(again.parse_json()["targets"][0]["via"], "none");
}

#[test]
fn a_push_that_is_killed_anywhere_goes_on_and_leaves_no_pod_behind() {
    let site = Site::new("seed-kill");
    let claim = site.claim("models");
    let plain = ["--create", "--via", "api", "--files", "plain"];
    let push = site.push(&claim, &plain);
    // Killed before the pod runs, while it runs, and after it has written something.
    let mut written = 0;
    for round in 0..6 {
        let mut running = site.gantry.start(&push);
        match round {
            0 => wait_until("the claim is made", || site.has_claim("models")),
            1 => wait_until("a seeder is there", || !site.seeders().is_empty()),
            _ => wait_until("more is written", || {
                let now = site.written("models");
                let is_more = now > written || !running.is_running();
                written = written.max(now);
                is_more
            }),
        }
        running.kill();
        assert!(!site.is_shown("models", HOME), "nothing is shown half");
    }
    // If the pod is deleted during a push, the push starts a new one.
    let mut running = site.gantry.start(&push);
    wait_until("a seeder is there", || !site.seeders().is_empty() || !running.is_running());
    wait_until("it writes", || site.written("models") > written || !running.is_running());
    site.delete_seeders();
    assert_eq!(running.wait(), Some(0));

    assert_eq!(site.seeders(), [""; 0]);
    let verify = ["models", "verify", &claim, "--site", "site.yaml", "--output", "json"];
    let checked = site.gantry.run(verify).assert_success().parse_json();
    assert_eq!(checked["targets"][0]["damagedFiles"], serde_json::json!([]));
    assert_eq!(site.written("models"), 0, "no part is left");
    let script = format!("sha256sum /models/{HOME}/snapshots/*/{WEIGHTS}");
    assert!(site.reads(&["models"], &script).contains(&sum(WEIGHTS)));
}

#[test]
fn ctrl_c_takes_the_pod_away_and_two_pushes_at_once_wait_for_each_other() {
    let site = Site::new("seed-two");
    let claim = site.claim("models");
    let push = site.push(&claim, &["--create", "--via", "api"]);

    let stopped = site.gantry.start(&push);
    wait_until("it writes", || site.written("models") > 0);
    assert_eq!(stopped.interrupt(), Some(4));
    assert_eq!(site.seeders(), [""; 0]);

    let first = site.gantry.start(&push);
    wait_until("the first one writes", || !site.seeders().is_empty());
    let second = site.gantry.run(&push).assert_success();
    assert_eq!(first.wait(), Some(0));
    assert!(second.stdout.contains("sentence-transformers/all-MiniLM-L6-v2"), "{}", second.stdout);
    assert_eq!(site.seeders(), [""; 0]);
}

#[test]
fn what_is_wrong_is_told_before_the_first_byte() {
    let site = Site::new("seed-wrong");
    let fails = |to: &str, more: &[&str], code: i32, words: &[&str]| {
        let error = site.gantry.run(site.push(to, more)).assert_exit_code(code).stderr;
        for word in words {
            assert!(error.contains(word), "{to} {more:?}: no {word:?} in {error}");
        }
        assert_eq!(site.seeders(), [""; 0]);
    };

    fails(&site.claim("none"), &[], 2, &["there is no such claim", "--create"]);
    let class = ["--create", "--storage-class", "fast"];
    fails(&site.claim("none"), &class, 2, &["\"fast\"", "local-path, shared-path"]);
    let size = ["--create", "--size", "1MiB"];
    fails(&site.claim("none"), &size, 2, &["--size 1.0 MiB is less than the size of the models"]);
    fails("pvc://Upper/x", &[], 2, &["pvc://namespace/claim"]);
    let never = ["--create", "--image", "10.99.0.1:1/none:1", "--pod-timeout", "40"];
    fails(&site.claim("waits"), &never, 1, &["cannot pull 10.99.0.1:1/none:1"]);
    assert!(!site.has_claim("none"));

    let nobody = site.as_nobody();
    let error =
        nobody.run(site.push(&site.claim("none"), &["--create"])).assert_exit_code(2).stderr;
    for right in ["pods/exec", "persistentvolumeclaims", "storageclasses", "apiGroups: [\"\"]"] {
        assert!(error.contains(right), "{error}");
    }

    let _small = site.small_claim("full", 32 << 20);
    fails(&site.claim("full"), &[], 1, &["more are needed, 32.0 MiB are free"]);
    let dry = site.push(&site.claim("new"), &["--create", "--dry-run", "--output", "json"]);
    let dry = site.gantry.run(dry).assert_success().parse_json();
    assert_eq!(dry["targets"][0]["created"], true);
    assert!(!site.has_claim("new"));
}

#[test]
fn a_damaged_file_is_named_long_after_and_mended_by_another_push() {
    let site = Site::new("seed-verify");
    let claim = site.claim("models/hub");
    let push = site.push(&claim, &["--create", "--layout", "flat", "--via", "api"]);
    site.gantry.run(&push).assert_success();
    let verify = ["models", "verify", &claim, "--site", "site.yaml"];
    site.gantry.run(verify).assert_success();
    let file = site.folder("models").join("hub").join(story::MODEL).join(WEIGHTS);

    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let error = site.gantry.run(verify).assert_exit_code(3).stderr;
    assert!(
        error.contains(&format!("{claim}/{}/{WEIGHTS}: its digest is", story::MODEL)),
        "{error}"
    );
    let listed = ["models", "ls", &claim, "--site", "site.yaml", "--output", "json"];
    let listed = site.gantry.run(listed).assert_success().parse_json();
    assert_eq!(listed["models"][0]["layout"], "flat");
    site.gantry.run(&push).assert_success();
    site.gantry.run(verify).assert_success();
    assert_eq!(site.seeders(), [""; 0]);
}

#[test]
fn an_image_of_models_is_mounted_by_a_pod_and_the_same_each_time() {
    let site = Site::new("seed-image");
    let to = format!("image://{}/models/minilm:1", site.registry.host());
    let push = site.push(&to, &["--output", "json"]);

    let first = site.gantry.run(&push).assert_success().parse_json()["targets"][0].clone();
    let again = site.gantry.run(&push).assert_success().parse_json()["targets"][0].clone();

    assert_eq!(first["outcome"], "loaded");
    assert_eq!((&again["outcome"], &again["digest"]), (&"present".into(), &first["digest"]));
    let reference =
        format!("{}/models/minilm@{}", site.registry.host(), first["digest"].as_str().unwrap());
    let volume = serde_json::json!({"name": "models", "image": {"reference": reference}});
    let script =
        format!("sha256sum /models/{HOME}/snapshots/*/{WEIGHTS}; cat /models/{HOME}/refs/main");
    let read = site.runs(&[volume], &["models"], &script);
    assert!(read.contains(&sum(WEIGHTS)), "{read}");
}

#[test]
fn the_nodes_own_disks_get_the_model_from_one_seeder_each() {
    let site = Site::new("seed-node");
    let space = site.privileged("seed-disk");
    let folder = format!("/var/lib/{}", space.name());
    let to = format!("node://{folder}?selector=kubernetes.io/os=linux&namespace={}", space.name());
    let restricted = format!("node://{folder}?namespace={}", site.namespace.name());

    // The allow-list: nothing is started for a folder that site.yaml does not name.
    let refused = site.gantry.run(site.push(&to, &[])).assert_exit_code(2).stderr;
    assert!(refused.contains(&format!("nodeFolders: [{folder}]")), "{refused}");
    let text = site.gantry.read_file("site.yaml");
    site.gantry.write_file("site.yaml", &format!("{text}nodeFolders: [{folder}, {folder}-link]\n"));
    let refused = site.gantry.run(site.push(&restricted, &[])).assert_exit_code(2).stderr;
    assert!(refused.contains("pod-security.kubernetes.io/enforce=privileged"), "{refused}");
    let none = format!("node://{folder}?selector=kind=none&namespace={}", space.name());
    let none = site.gantry.run(site.push(&none, &[])).assert_exit_code(2).stderr;
    assert!(none.contains("no node has these labels"), "{none}");
    let push = site.push(&to, &["--layout", "flat", "--output", "json"]);
    let pushed = site.gantry.run(&push).assert_success().parse_json();
    let again = site.gantry.run(&push).assert_success().parse_json();
    let names = site.cluster.node_names();
    assert_eq!(pushed["targets"][0]["nodes"].as_array().unwrap().len(), names.len(), "{pushed:#}");
    for (index, name) in names.iter().enumerate() {
        assert_eq!(pushed["targets"][0]["nodes"][index]["node"], **name, "{pushed:#}");
        assert_eq!(
            again["targets"][0]["nodes"][index]["models"][0]["outcome"], "present",
            "{again:#}"
        );
    }

    let root = |name: &str| site.cluster.node_folder(name).join(folder.trim_start_matches('/'));
    // A link of the same node to a folder of the system: the kubelet follows it, the seeder does not.
    let link = |name: &str| site.cluster.node_folder(name).join(&format!("{folder}-link")[1..]);
    for name in &names {
        std::os::unix::fs::symlink("/etc", link(name)).unwrap();
    }
    let behind = to.replace(&folder, &format!("{folder}-link"));
    let behind = site.gantry.run(site.push(&behind, &[])).assert_exit_code(2).stderr;
    assert!(behind.contains("behind a symbolic link"), "{behind}");
    for name in &names {
        assert!(!link(name).join(story::MODEL).exists());
        std::fs::remove_file(link(name)).unwrap();
    }

    let damaged = names.last().unwrap();
    let weights = root(damaged).join(story::MODEL).join(WEIGHTS);
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let verify = ["models", "verify", &to, "--site", "site.yaml"];
    let error = site.gantry.run(verify).assert_exit_code(3).stderr;
    assert!(error.contains(&format!("{damaged}:{folder}/{}/{WEIGHTS}", story::MODEL)), "{error}");
    assert_eq!(error.matches(WEIGHTS).count(), 1, "only where it is damaged: {error}");
    for name in &names {
        std::fs::remove_dir_all(root(name)).unwrap();
    }
}

#[test]
fn an_ollama_volume_is_filled_for_a_server_that_runs_already() {
    let site = Site::new("seed-akko");
    let models = site.gantry.folder().join("ollama");
    testkit::workloads::write_ollama_models(&models);
    site.gantry.write_file(
        "gantry.yaml",
        "version: 1\nname: akko\nmodels: [{ollama: gantry-tiny, folder: ollama}]\n",
    );
    site.gantry.run(["lock"]).assert_success();
    site.gantry.run(["fetch"]).assert_success();
    let model = "registry.ollama.ai/library/gantry-tiny:latest";
    // The server runs with an empty ReadWriteOnce claim, which only one node can mount.
    site.holds("ollama-data");

    let push =
        site.push(&site.claim("ollama-data/models"), &["--layout", "ollama", "--model", model]);
    site.gantry.run(&push).assert_success();

    let script = "cd /ollama-data/models; cat manifests/registry.ollama.ai/library/gantry-tiny/latest; for f in blobs/sha256-*; do test ${f#blobs/sha256-} = $(sha256sum < $f | cut -c1-64) && echo whole; done";
    let read = site.reads(&["ollama-data"], script);
    assert_eq!(read.matches("whole").count(), 4, "{read}");
    assert!(read.contains("application/vnd.ollama.image.model"), "{read}");
    assert_eq!(site.seeders(), [""; 0]);
}
