//! Models in a bucket: pushed in the layout that SIE and huggingface_hub read, with the push killed, the
//! source damaged, and the objects changed by others, and verified afterwards. The server is moto; what
//! was pushed is read with boto3.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::story::{self, alone, text};
use testkit::faults::{FaultRepeats, SeenRequest, WireFault};
use testkit::{FaultProxy, Gantry, S3Server, loopback_only_command, tools};

const MODEL: &str = "own/model";
const SNAPSHOTS: &str = "sie/models--own--model/snapshots/";
const TO: &str = "s3://models/sie";

#[test]
fn a_model_in_a_bucket_is_whole_for_boto3_and_a_cache_for_the_hub_s_library() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let gantry = with_model(home.path(), &s3.url(), &tools::model_folder());

    let first = push(&gantry, &["--output", "json"]).assert_success().parse_json();

    assert_eq!(first["targets"][0]["models"][0]["outcome"], "written");
    let cache = home.path().join("cache");
    download(&s3, "sie/", &cache);
    let commit = fs::read_to_string(cache.join("models--own--model/refs/main")).unwrap();
    assert_eq!(commit.len(), 40, "without a newline");
    let snapshot = cache.join("models--own--model/snapshots").join(&commit);
    assert_eq!(found_by_the_library(&cache), text(&snapshot));
    for (path, _) in story::files(&tools::model_folder()) {
        let own = path.strip_prefix(tools::model_folder()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), fs::read(snapshot.join(own)).unwrap(), "{own:?}");
    }
    assert!(s3.list_uploads().is_empty());
    let before = s3.read_log().matches("POST").count();
    let again = push(&gantry, &["--output", "json"]).assert_success().parse_json();
    assert_eq!(again["targets"][0]["models"][0]["outcome"], "present");
    assert_eq!(s3.read_log().matches("POST").count(), before, "nothing is uploaded again");
    gantry.run(["models", "verify", TO]).assert_success();
    assert!(gantry.run(["models", "ls", TO]).assert_success().stdout.contains(MODEL));
}

#[test]
fn killed_at_ten_random_points_it_shows_nothing_half_and_sends_no_noted_part_twice() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let gantry = with_model(home.path(), &s3.url(), &tools::model_folder());
    // Every hasher of std has new random keys, which serves as a source of random numbers.
    let random = RandomState::new();
    let (mut noted_ever, mut is_shown) = (0, false);

    for kill in 0..=10_u64 {
        let noted = noted_parts(&s3);
        let proxy = FaultProxy::in_front_of(&s3.url());
        let arguments = ["models", "push", &text(gantry.store()), "--to", TO, "--layout", "sie"];
        let running = gantry.clone().env("AWS_ENDPOINT_URL", proxy.url());
        let mut running = running.start(arguments);
        if kill < 10 {
            // Each time two random parts of the weights' ten fail, but never the first.
            let instant = kill % 5 * 2 + random.hash_one(kill) % 2;
            let is_part = |one: &SeenRequest| {
                one.path.contains("partNumber=") && !one.path.contains("partNumber=1&")
            };
            let sent = || proxy.requests().iter().filter(|one| is_part(one)).count() as u64;
            while running.is_running() && sent() <= instant {
                std::thread::yield_now();
            }
            running.kill();
        } else {
            assert_eq!(running.wait(), Some(0));
        }
        let sent = proxy.requests();
        let twice =
            sent.iter().filter(|one| one.method == "PUT" && noted.contains(&part(&one.path)));
        assert_eq!(twice.count(), 0, "{noted:?}");
        noted_ever += noted.len();
        is_shown |= sent.iter().any(|one| one.path.contains("?uploadId") && one.method == "POST");
        let there = seen(&s3).len();
        assert!(there == 0 || is_shown, "{there} objects are seen before anything was completed");
    }

    assert!(noted_ever > 0, "the kills fell into the push");
    assert_eq!(seen(&s3).len(), story::files(&tools::model_folder()).len());
    assert!(s3.list_uploads().is_empty(), "nothing is left behind: {:?}", s3.list_uploads());
    let left: Vec<_> = s3
        .list_objects()
        .into_iter()
        .filter(|(name, _)| name.contains(".gantry/uploads"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    gantry.run(["models", "verify", TO]).assert_success();
}

#[test]
fn a_source_that_lies_shows_nothing_and_is_told_and_the_right_one_goes_on() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let gantry = with_model(home.path(), &s3.url(), &tools::model_folder());
    let weights = blob_of(&gantry, 50 << 20);
    let right = fs::read(&weights).unwrap();
    let mut wrong = right.clone();
    wrong[60 << 20] ^= 1;
    rewrite(&weights, &wrong);

    let error = push(&gantry, &[]).assert_exit_code(3).stderr;

    assert!(error.contains("sha256:"), "{error}");
    assert!(seen(&s3).is_empty(), "{:?}", seen(&s3));
    assert!(!s3.list_uploads().iter().any(|name| name.ends_with("safetensors")), "given up");
    rewrite(&weights, &right);
    push(&gantry, &[]).assert_success();
    gantry.run(["models", "verify", TO]).assert_success();
}

#[test]
fn an_upload_that_somebody_cleaned_up_is_made_again_in_the_midst_and_at_its_end() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::in_front_of(&s3.url());
    let gantry = with_model(home.path(), &proxy.url(), &tools::model_folder());
    // Servers answer 404 (NoSuchUpload) to every request about an upload that no longer exists.
    let gone = WireFault::Status { code: 404, retry_after: None };
    proxy.inject("partNumber=3&", gone, FaultRepeats::Exactly(1));
    proxy.inject("model.safetensors?uploadId", gone, FaultRepeats::Exactly(1));

    push(&gantry, &[]).assert_success();

    gantry.run(["models", "verify", TO]).assert_success();
    let begun = |one: &SeenRequest| one.path.contains("model.safetensors?uploads");
    let begun: Vec<_> = proxy.requests().into_iter().filter(begun).collect();
    assert_eq!(begun.len(), 3, "{begun:?}");
}

#[test]
fn a_push_without_the_right_to_write_says_which_rights_and_shows_nothing() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::in_front_of(&s3.url());
    let gantry = with_model(home.path(), &proxy.url(), &tools::model_folder());
    proxy.inject(
        "partNumber=9",
        WireFault::Status { code: 403, retry_after: None },
        FaultRepeats::Exactly(1),
    );

    let error = push(&gantry, &[]).assert_exit_code(1).stderr;

    assert!(error.contains("s3:PutObject"), "{error}");
    assert!(seen(&s3).is_empty());
    assert!(!noted_parts(&s3).is_empty(), "what came is kept");
    push(&gantry, &[]).assert_success();
    assert!(s3.list_uploads().is_empty());
}

#[test]
fn a_bucket_is_proven_without_the_bundle_and_mended_with_it() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let gantry = with_model(home.path(), &s3.url(), &small_model(home.path(), "1"));
    let flat = ["--layout", "flat"];
    push(&gantry, &flat).assert_success();
    let keys = "sie/own/model/";

    s3.run_boto3(&format!(
        "s3.put_object(Bucket=bucket, Key='{keys}config.json', Body=b'2')\n\
         s3.delete_object(Bucket=bucket, Key='{keys}old.txt')"
    ));

    let error = gantry.run(["models", "verify", TO]).assert_exit_code(3).stderr;
    assert!(error.contains("own/model/config.json: its digest is"), "{error}");
    assert!(error.contains("own/model/old.txt: it is missing"), "{error}");
    push(&gantry, &flat).assert_success();
    gantry.run(["models", "verify", TO]).assert_success();

    // Another revision replaces it, with nothing left of the old one.
    small_model(home.path(), "2");
    fs::remove_file(home.path().join("work/model/old.txt")).unwrap();
    fs::remove_dir_all(gantry.store()).unwrap();
    gantry.run(["lock", "--upgrade"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    push(&gantry, &flat).assert_success();
    gantry.run(["models", "verify", TO]).assert_success();
    let names: Vec<String> = s3.list_objects().into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.ends_with("old.txt")), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.contains(".gantry/models")).count(), 1);

    // Objects that somebody else wrote are reported and kept.
    s3.run_boto3("s3.put_object(Bucket=bucket, Key='other/own/model/notes.txt', Body=b'mine')");
    let store = text(gantry.store());
    let other = ["models", "push", &store, "--to", "s3://models/other", "--layout", "flat"];
    let error = gantry.run(other).assert_exit_code(2).stderr;
    assert!(error.contains("s3://models/other/own/model/notes.txt is in the way"), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_the_next_step_before_anything_is_written() {
    let (s3, home) = (S3Server::start_with_tls(), tempfile::tempdir().unwrap());
    let gantry = with_model(home.path(), &s3.url(), &small_model(home.path(), "1"));
    let ca = text(&s3.ca_file().unwrap());
    let refuses = |gantry: &Gantry, to: &str, more: &[&str], expected: &str| {
        let store = text(gantry.store());
        let base = ["models", "push", &store, "--to", to];
        let error = gantry.run(base.iter().chain(more)).assert_exit_code(2).stderr;
        assert!(error.contains(expected), "{error}");
    };

    refuses(&gantry, TO, &[], "--ca FILE");
    refuses(&gantry, "s3://nope", &["--ca", &ca], "create the bucket \"nope\" first");
    refuses(&gantry, TO, &["--endpoint", "http://10.0.0.1"], "has no TLS");
    refuses(&gantry, TO, &["--endpoint", "https://127.0.0.1:1"], "check the endpoint");
    refuses(&gantry, TO, &["--files", "links"], "always gets plain files");
    refuses(&gantry, "s3://models/../x", &[], "the prefix");
    refuses(&gantry, "/srv/models", &["--ca", &ca], "ca can only be used with a bucket");
    refuses(&gantry, "depot", &[], "nothing can be written to a depot");
    let plain = S3Server::start();
    let proxy = FaultProxy::in_front_of(&plain.url());
    proxy.inject(
        "list-type",
        WireFault::Status { code: 403, retry_after: None },
        FaultRepeats::Always,
    );
    refuses(&gantry, TO, &["--endpoint", &proxy.url()], "s3:ListBucket");
    let nobody = alone(home.path())
        .env("AWS_ENDPOINT_URL", plain.url())
        .env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    refuses(&nobody, TO, &[], "there are no credentials");

    assert!(s3.list_objects().is_empty() && plain.list_objects().is_empty());
    push(&gantry, &["--ca", &ca]).assert_success();
    gantry.run(["models", "verify", TO, "--ca", &ca]).assert_success();
}

#[test]
fn all_targets_of_a_site_get_their_models_and_one_that_does_not_exist_is_found_before_any_is_written()
 {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let registry = testkit::TestRegistry::start();
    let gantry = with_model(home.path(), &s3.url(), &small_model(home.path(), "1"));
    let site = |bucket: &str| {
        gantry.write_file(
            "site.yaml",
            &format!(
                "version: 1\nregistry: {{url: '{}'}}\nmodels:\n\
                 - {{to: depot}}\n\
                 - {{to: 's3://{bucket}/sie', layout: sie, endpoint: '{}'}}\n\
                 - {{to: ./volume, files: plain}}\n\
                 - {{to: ./ollama, layout: ollama}}\n\
                 - {{to: ./flat, layout: flat, models: [OWN/model, no/such]}}\n",
                registry.host(),
                s3.url()
            ),
        );
    };
    let store = text(gantry.store());
    let load = ["load", &store, "--site", "site.yaml", "--output", "json"];
    site("models");

    let planned = gantry.run(load.iter().chain(&["--dry-run"])).assert_success().parse_json();
    assert_eq!(planned["targets"].as_array().unwrap().len(), 4);
    assert!(s3.list_objects().is_empty() && !gantry.folder().join("volume").exists());
    let loaded = gantry.run(load).assert_success();

    assert!(
        loaded.stderr.contains("./flat: the bundle or store has no model no/such"),
        "{}",
        loaded.stderr
    );
    assert_eq!(loaded.parse_json()["targets"][0]["models"][0]["outcome"], "written");
    assert_eq!(
        loaded.parse_json()["targets"][2]["models"],
        serde_json::json!([]),
        "none is Ollama's"
    );
    assert_eq!(seen(&s3).len(), 3);
    let home = gantry.folder().join("volume/models--own--model");
    assert!(home.join("refs/main").is_file() && !home.join("blobs").exists());
    assert!(gantry.folder().join("flat/own/model/config.json").is_file());
    assert!(!gantry.folder().join("ollama").exists());
    site("nope");
    fs::remove_dir_all(gantry.folder().join("volume")).unwrap();
    let error = gantry.run(load).assert_exit_code(2).stderr;
    assert!(error.contains("models to s3://nope/sie"), "{error}");
    assert!(!home.join("refs/main").exists(), "nothing is written to the targets behind it");
}

#[test]
fn a_dry_run_tells_what_is_there_and_what_would_be_sent_and_changes_nothing() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let model = small_model(home.path(), "1");
    let gantry = with_model(home.path(), &s3.url(), &model);
    let (volume, store) = (home.path().join("volume"), text(gantry.store()));
    let to_folder = ["models", "push", &store, "--to", &text(&volume)];
    let ask = |verb: &[&str]| {
        let dry = gantry.run(verb.iter().chain(&["--dry-run", "--output", "json"]));
        dry.assert_success().parse_json()["targets"][0]["models"][0].clone()
    };
    let to_bucket = [&to_folder[..3], &["--to", TO, "--layout", "sie"]].concat();
    for verb in [&to_folder[..], &to_bucket] {
        let before = ask(verb);
        assert_eq!(before["missingBytes"], before["bytes"], "{before:#}");
        assert_eq!(before["outcome"], serde_json::Value::Null);
        assert!(s3.list_objects().is_empty());
        gantry.run(verb).assert_success();
        let after = ask(verb);
        assert_eq!((&after["missingBytes"], &after["outcome"]), (&0.into(), &"present".into()));
    }
    assert!(s3.list_objects().len() > 3);

    // One file is gone, another is somebody's.
    let commit = fs::read_to_string(volume.join("models--own--model/refs/main")).unwrap();
    let snapshot = volume.join("models--own--model/snapshots").join(commit);
    let old = fs::canonicalize(snapshot.join("old.txt")).unwrap();
    fs::remove_file(&old).unwrap();
    let files = story::files(&volume);
    assert_eq!(ask(&to_folder)["missingBytes"], 3);
    assert_eq!(story::files(&volume), files, "a dry run touches no file");
    let table = gantry.run(to_folder.iter().chain(&["--dry-run"])).assert_success().stdout;
    assert!(table.contains("would be written, 3 B of it"), "{table}");

    // A server that cannot be asked is no failure of a dry run.
    let away = gantry.clone().env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let away = away.run(to_bucket.iter().chain(&["--dry-run"])).assert_success();
    assert!(away.stderr.contains("not known what is there"), "{}", away.stderr);
}

#[test]
fn a_limit_of_bandwidth_holds_for_a_bucket_in_both_directions() {
    let (s3, home) = (S3Server::start(), tempfile::tempdir().unwrap());
    let model = small_model(home.path(), "1");
    fs::write(model.join("weights.bin"), vec![7; 3 << 20]).unwrap();
    let gantry = with_model(home.path(), &s3.url(), &model);
    let least = Duration::from_millis(2700);

    let started = Instant::now();
    push(&gantry, &["--bandwidth", "1MiB"]).assert_success();
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    let started = Instant::now();
    gantry.run(["models", "verify", TO, "--bandwidth", "1MiB"]).assert_success();
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    push(&gantry, &["--bandwidth", "1KiB"]).assert_exit_code(2);
}

/// A user with one model in the store, and credentials for the bucket's server.
fn with_model(home: &Path, endpoint: &str, model: &Path) -> Gantry {
    let gantry = alone(home)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_ENDPOINT_URL", endpoint);
    let input = format!(
        "version: 1\nname: own\nmodels: [{{hf: {MODEL}, folder: '{}'}}]\n",
        model.display()
    );
    gantry.write_file("gantry.yaml", &input);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    gantry
}

/// A model of three small files, one of them empty.
fn small_model(home: &Path, config: &str) -> std::path::PathBuf {
    let folder = home.join("work/model");
    fs::create_dir_all(&folder).unwrap();
    for (name, content) in [("config.json", config), ("old.txt", "old"), ("empty.txt", "")] {
        fs::write(folder.join(name), content).unwrap();
    }
    folder
}

fn push(gantry: &Gantry, more: &[&str]) -> testkit::gantry::CommandOutput {
    let store = text(gantry.store());
    let layout: &[&str] = if more.contains(&"--layout") { &[] } else { &["--layout", "sie"] };
    let base = ["models", "push", &store, "--to", TO];
    gantry.run(base.iter().chain(layout).chain(more))
}

/// What SIE would see: every object in the model's snapshots.
fn seen(s3: &S3Server) -> Vec<(String, u64)> {
    s3.list_objects().into_iter().filter(|(name, _)| name.starts_with(SNAPSHOTS)).collect()
}

/// The parts that are recorded in the upload journals in the bucket: `object's name?partNumber=…&uploadId=…`.
fn noted_parts(s3: &S3Server) -> BTreeSet<String> {
    let listed = s3.run_boto3(
        "found = s3.list_objects_v2(Bucket=bucket, Prefix='sie/.gantry/uploads/').get('Contents', [])\n\
         parts = []\n\
         for o in found:\n  \
           state = json.loads(s3.get_object(Bucket=bucket, Key=o['Key'])['Body'].read())\n  \
           for path, u in state['uploads'].items():\n    \
             parts += [f\"{path}?partNumber={int(n) + 1}&uploadId={u['id']}\" for n in u['parts']]\n\
         print(json.dumps(parts))",
    );
    serde_json::from_str(&listed).unwrap()
}

/// A request's path in the form of [`noted_parts`].
fn part(path: &str) -> String {
    path.trim_start_matches("/models/sie/").to_owned()
}

/// The path of the blob in the store that is larger than this.
fn blob_of(gantry: &Gantry, above: u64) -> std::path::PathBuf {
    let blobs = story::files(&gantry.store().join("blobs/sha256"));
    blobs.into_iter().find(|(_, size)| *size > above).expect("the model has weights").0
}

fn rewrite(path: &Path, bytes: &[u8]) {
    // Blobs may be read-only files, so the whole file is replaced.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Downloads all objects below a prefix into a folder, like `aws s3 sync`.
fn download(s3: &S3Server, prefix: &str, folder: &Path) {
    s3.run_boto3(&format!(
        "for o in s3.list_objects_v2(Bucket=bucket, Prefix={prefix:?})['Contents']:\n  \
         file = os.path.join({:?}, o['Key'][len({prefix:?}):])\n  \
         os.makedirs(os.path.dirname(file), exist_ok=True)\n  \
         s3.download_file(bucket, o['Key'], file)",
        text(folder)
    ));
}

/// The folder that huggingface_hub finds in a cache, with no network.
fn found_by_the_library(cache: &Path) -> String {
    let script = format!(
        "from huggingface_hub import snapshot_download\nprint(snapshot_download({MODEL:?}, \
         cache_dir={:?}, local_files_only=True))",
        text(cache)
    );
    let mut python = loopback_only_command(tools::hub_python("2.4.0"));
    tools::run_command(python.args(["-c", &script]).env("HF_HUB_OFFLINE", "1")).trim().to_owned()
}
