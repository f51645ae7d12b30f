//! Evidence archives: an auditor can read and verify one without Gantry, pickle files are analysed and
//! never executed, and every change to an archive is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::story::{self, BINARY, text};
use serde_json::Value;
use testkit::{Gantry, TestEnvironment, TestHub, TestImages, TestRegistry, tools};

const IMAGE: &str = "docker.io/library/nginx:1.22";
const GATHER: [&str; 9] = [
    "evidence",
    "--site",
    "site.yaml",
    "--receipt",
    "receipt.json",
    "--check",
    "check.json",
    "--output",
    "json",
];

/// Writes a model with pickle files by Python itself, one of which would create a file when loaded, and
/// with archives in the layout of `torch.save`.
const MODEL: &str = r#"
import collections, io, os, pickle, struct, sys, zipfile
class Evil:
    def __reduce__(self):
        return (os.system, ("touch " + sys.argv[2],))
os.chdir(sys.argv[1])
write = lambda name, data: open(name, "wb").write(data)
write("README.md", b"---\nlicense: other\nlicense_name: gemma\n---\n# A <script>alert(1)</script>\n")
write("LICENSE", b"Gemma Terms of Use\n")
write("config.json", b"{}")
header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
write("model.safetensors", struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
usual = collections.OrderedDict(w=[1.0, 2.0], deep=[{"a": (1, b"x", None)}] * 50)
for protocol in range(6):
    write("protocol-%d.pkl" % protocol, pickle.dumps(usual, protocol))
    write("evil-%d.ckpt" % protocol, pickle.dumps([usual, Evil()], protocol))
def archive(name, data, method):
    with zipfile.ZipFile(name, "w", method) as z:
        z.writestr("archive/data.pkl", data)
        z.writestr("archive/version", "3\n")
        # A tensor whose bytes look like a pickle is none.
        z.writestr("archive/data/0", b"\x80\x02" + os.urandom(4096))
archive("pytorch_model.bin", pickle.dumps(usual, 2), zipfile.ZIP_STORED)
archive("packed.pt", pickle.dumps(Evil(), 4), zipfile.ZIP_DEFLATED)
write("truncated.bin", pickle.dumps([usual, Evil()], 4)[:-3])
"#;

/// A user with an image and a model that are locked, fetched and loaded, and with their receipts and
/// reports.
fn audited() -> (TestEnvironment, Gantry, PathBuf) {
    let folder = tempfile::tempdir().unwrap().keep();
    let marker = folder.join("was-run");
    let model = folder.join("model");
    fs::create_dir(&model).unwrap();
    let mut python = tools::tool_command("python3");
    tools::run_command(python.args(["-c", MODEL]).arg(&model).arg(&marker));
    let hub = TestHub::builder().add_repository("shop/tiny", &model);
    let world = TestEnvironment::from_parts(TestImages::fast(), TestRegistry::builder(), hub);
    let gantry = world.gantry(BINARY);
    gantry.write_file(
        "gantry.yaml",
        &format!("version: 1\nname: shop\nplatforms: [linux/amd64]\nimages: [{IMAGE}]\nmodels:\n- hf: shop/tiny\n"),
    );
    gantry.write_file(
        "site.yaml",
        &format!("version: 1\nregistry: {{url: '{}'}}\n", world.site().host()),
    );
    gantry.write_file("check.json", "{\"verdict\": \"passed\", \"findings\": []}\n");
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let store = text(gantry.store());
    gantry
        .run(["load", &store, "--site", "site.yaml", "--receipt", "receipt.json"])
        .assert_success();
    (world, gantry, marker)
}

fn gather(gantry: &Gantry, more: &[&str]) -> Value {
    gantry.run(GATHER.iter().chain(more)).assert_success().parse_json()
}

fn unpacked(gantry: &Gantry, archive: &str, folder: &str) -> PathBuf {
    let to = gantry.folder().join(folder);
    fs::create_dir(&to).unwrap();
    let mut tar = tools::tool_command("tar");
    tools::run_command(
        tar.arg("--zstd").arg("-xf").arg(gantry.folder().join(archive)).arg("-C").arg(&to),
    );
    to
}

/// A pair of keys made by minisign, without a password.
fn keys(folder: &Path) -> (String, String) {
    let (public, secret) = (folder.join("minisign.pub"), folder.join("minisign.key"));
    let mut minisign = tools::tool_command("minisign");
    tools::run_command(minisign.args(["-G", "-W", "-f", "-p"]).arg(&public).arg("-s").arg(&secret));
    (text(&public), text(&secret))
}

#[test]
fn what_was_carried_is_gathered_signed_and_read_without_gantry() {
    let (world, gantry, marker) = audited();
    let (public, secret) = keys(world.home());

    let gathered = gather(&gantry, &["-o", "one.tar.zst"]);
    gather(&gantry, &["-o", "two.tar.zst"]);
    gather(&gantry, &["-o", "signed.tar.zst", "--sign", &secret]);

    let read = |name: &str| fs::read(gantry.folder().join(name)).unwrap();
    assert!(read("one.tar.zst") == read("two.tar.zst"), "the same input gives the same bytes");
    assert!(!marker.exists(), "a pickle was run");
    let folder = unpacked(&gantry, "signed.tar.zst", "opened");
    let mut minisign = tools::tool_command("minisign");
    let said = tools::run_command(
        minisign.args(["-V", "-m"]).arg(folder.join("index.json")).args(["-p", &public]),
    );
    assert!(said.contains("gantry evidence of shop"), "{said}");
    let index: Value =
        serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    for part in index["parts"].as_array().unwrap() {
        let path = folder.join(part["path"].as_str().unwrap());
        let sum = tools::run_command(tools::tool_command("sha256sum").arg(&path));
        assert_eq!(part["sha256"].as_str().unwrap(), format!("sha256:{}", &sum[..64]));
    }
    let image = &index["images"][0];
    assert_eq!(image["reference"], IMAGE);
    assert_eq!(image["sboms"].as_array().unwrap().len(), 1, "{image}");
    assert!(image["signatures"].as_array().unwrap().len() >= 2, "{image}");
    let sbom = fs::read_to_string(folder.join(image["sboms"][0].as_str().unwrap())).unwrap();
    assert!(sbom.contains("SPDX"), "{sbom}");
    assert_eq!(index["models"][0]["licences"], serde_json::json!(["other", "gemma"]));
    assert_eq!(index["reports"][0]["verdict"], "passed");
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(
        page.contains("shop/tiny") && page.contains("evil-4.ckpt") && !page.contains("<script")
    );
    assert!(gathered["findings"].as_array().unwrap().len() > 6);

    let verified = gantry
        .run(["evidence", "verify", "signed.tar.zst", "--trust", &public, "--output", "json"])
        .assert_success()
        .parse_json();
    assert_eq!(verified["signature"]["state"], "good");
    assert_eq!(verified["findings"], gathered["findings"]);
    gantry.run(["evidence", "verify", "opened", "--trust", &public]).assert_success();
    let unsigned = gantry.run(["evidence", "verify", "one.tar.zst"]).assert_success();
    assert!(unsigned.stderr.contains("not signed"), "{}", unsigned.stderr);
}

#[test]
fn a_pickle_is_told_by_what_it_would_import_whatever_its_protocol_and_its_wrapping() {
    let (_world, gantry, marker) = audited();

    gather(&gantry, &["-o", "evidence"]);

    assert!(!marker.exists(), "a pickle was run");
    let index: Value = serde_json::from_str(&gantry.read_file("evidence/index.json")).unwrap();
    let files = index["models"][0]["files"].as_array().unwrap();
    let looked = |path: &str| {
        &files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path}"))["looked"]
    };
    let worst = |path: &str| looked(path)["pickles"][0]["imports"][0].clone();
    for protocol in 0..6 {
        let evil = worst(&format!("evil-{protocol}.ckpt"));
        assert_eq!(
            (evil["name"].as_str(), evil["danger"].as_str()),
            (Some("posix.system"), Some("dangerous"))
        );
        let usual = looked(&format!("protocol-{protocol}.pkl"));
        let imports = usual["pickles"][0]["imports"].as_array().unwrap();
        assert!(
            imports.iter().any(|import| import["name"] == "collections.OrderedDict"),
            "{usual}"
        );
        assert!(imports.iter().all(|import| import["danger"] == "usual"), "{usual}");
        assert!(usual["pickles"][0].get("broken").is_none(), "{usual}");
    }
    assert_eq!(looked("model.safetensors")["form"], "safetensors");
    assert_eq!(looked("pytorch_model.bin")["form"], "pickle-archive");
    assert_eq!(looked("pytorch_model.bin")["pickles"].as_array().unwrap().len(), 1);
    assert_eq!(worst("pytorch_model.bin")["danger"], "usual");
    assert_eq!(worst("packed.pt")["name"], "posix.system");
    assert!(
        looked("truncated.bin")["pickles"][0]["broken"].as_str().unwrap().contains("truncated")
    );
    let high =
        index["findings"].as_array().unwrap().iter().filter(|finding| finding["weight"] == "high");
    assert_eq!(high.count(), 8, "{:#}", index["findings"]);
}

#[test]
fn whatever_is_changed_missing_added_or_signed_by_another_is_found() {
    let (world, gantry, _) = audited();
    let (public, secret) = keys(world.home());
    let other = world.home().join("other");
    fs::create_dir(&other).unwrap();
    let (others, _) = keys(&other);
    gather(&gantry, &["-o", "evidence", "--sign", &secret]);
    let verify = ["evidence", "verify", "evidence", "--trust", &public];
    gantry.run(verify).assert_success();
    let fails = |why: &str| {
        let error = gantry.run(verify).assert_exit_code(3).stderr;
        assert!(error.contains(why), "{error}");
    };
    let folder = gantry.folder().join("evidence");
    let changed = |name: &str, change: &dyn Fn(&Path), why: &str| {
        let path = folder.join(name);
        let before = fs::read(&path).ok();
        change(&path);
        fails(why);
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    };

    let add = |path: &Path| fs::write(path, "more").unwrap();
    changed("locks/gantry.lock", &add, "differs from the index");
    changed("index.html", &add, "differs from the index");
    changed("reports/check.json", &|path| fs::remove_file(path).unwrap(), "but missing");
    changed("reports/more.json", &add, "not in the index");
    changed(
        "index.json",
        &|path| {
            let text = fs::read_to_string(path).unwrap().replace("\"high\"", "\"low\"");
            fs::write(path, text).unwrap();
        },
        "signature is not valid",
    );
    changed("index.json.minisig", &|path| fs::remove_file(path).unwrap(), "no signature");
    gantry.run(verify).assert_success();
    let error = gantry
        .run(["evidence", "verify", "evidence", "--trust", &others])
        .assert_exit_code(3)
        .stderr;
    assert!(error.contains("the trusted keys are"), "{error}");
}

#[test]
fn bad_input_is_told_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let gantry = story::alone(home.path());
    let fails = |arguments: &[&str], why: &str| {
        let error = gantry.run(arguments).assert_exit_code(2).stderr;
        assert!(error.contains(why), "{arguments:?}: {error}");
        assert!(!gantry.folder().join("e.tar.zst").exists());
    };
    let to = ["evidence", "-o", "e.tar.zst"];

    fails(&["evidence"], "--out");
    fails(&to, "gantry lock");
    gantry.write_file("gantry.lock", "version: 1\nname: x\nplatforms: [linux/amd64]\n");
    fails(&[&to[..], &["--check", "none.json"]].concat(), "none.json");
    fails(&[&to[..], &["--receipt", "gantry.lock"]].concat(), "gantry.lock");
    fails(&[&to[..], &["--sign", "gantry.lock"]].concat(), "not a secret key of minisign");
    fails(&["evidence", "verify", "none"], "none");
    // The message does not say the cause, so it has a line or a key of its own.
    fails(&["evidence", "verify", "none"], "\ncause: No such file or directory");
    fails(
        &["evidence", "verify", "none", "--output", "json"],
        "\"causes\":[\"No such file or directory",
    );
    fails(&["evidence", "verify", "gantry.lock", "--trust", "nonsense"], "not a public key");
    let encrypted = home.path().join("encrypted.key");
    let key =
        "untrusted comment: minisign encrypted secret key\nRWRTY0IyAAAAAAAAAAAAAAAAAAAAAAAA\n";
    fs::write(&encrypted, key).unwrap();
    fails(&[&to[..], &["--sign", &text(&encrypted)]].concat(), "GANTRY_SIGN_PASSWORD");
    gantry.run(to).assert_success();
    gantry.run(["evidence", "verify", "e.tar.zst"]).assert_success();
    gantry.write_file("noise.tar.zst", "no archive at all");
    gantry.run(["evidence", "verify", "noise.tar.zst"]).assert_exit_code(3);
}
