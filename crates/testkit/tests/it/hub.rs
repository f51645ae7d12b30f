//! The Hub against the clients that it is made for: the five versions of huggingface_hub.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use gantry_testkit::{MINILM, TestHub, tools};

/// Downloads a snapshot with one version of the client and compares it with the folder.
const SNAPSHOT: &str = r"
import filecmp, os, sys
from pathlib import Path
from huggingface_hub import snapshot_download
repo, source, commit = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
got = Path(snapshot_download(repo, revision='main'))
assert got.name == commit, (got, commit)
names = sorted(p.relative_to(source) for p in source.rglob('*') if p.is_file())
assert names == sorted(p.relative_to(got) for p in got.rglob('*') if p.is_file())
match, mismatch, errors = filecmp.cmpfiles(source, got, names, shallow=False)
assert not mismatch and not errors, (mismatch, errors)
os.environ['HF_HUB_OFFLINE'] = '1'
assert Path(snapshot_download(repo, local_files_only=True)) == got
print(len(match))
";

fn client(version: &str, hub: &TestHub, home: &Path) -> Command {
    let mut command = Command::new(tools::hub_python(version));
    command
        .env("HF_ENDPOINT", hub.url())
        .env("HF_HOME", home)
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env_remove("HF_TOKEN");
    command
}

fn minilm_with_every_version(hub: &TestHub) {
    let source = tools::model_folder();
    for version in tools::HUB_VERSIONS {
        let home = tempfile::tempdir().unwrap();
        let files = tools::run_command(
            client(version, hub, home.path())
                .args(["-c", SNAPSHOT, MINILM])
                .arg(&source)
                .arg(TestHub::commit_of(MINILM, &source)),
        );
        assert_eq!(files.trim(), "13", "huggingface_hub {version}");
    }
}

#[test]
fn every_checked_version_of_huggingface_hub_gets_the_same_bytes() {
    minilm_with_every_version(&TestHub::start());
}

#[test]
fn they_also_follow_the_way_to_lfs_files_elsewhere() {
    minilm_with_every_version(&TestHub::builder().minilm().lfs_redirects().page(4).start());
}

#[test]
fn the_clients_name_each_error_as_they_do_with_the_real_hub() {
    let folder = tools::model_folder();
    let hub = TestHub::builder()
        .add_repository("org/open", &folder)
        .add_repository("org/gated", &folder)
        .gated()
        .add_repository("org/private", &folder)
        .private()
        .add_repository("org/disabled", &folder)
        .disabled()
        .token("hf_0123456789abcdefghijklmnopqrstuvwxyz")
        .start();
    let program = r"
import sys
from huggingface_hub import hf_hub_download
for case in sys.argv[1:]:
    repo, revision, file, token = case.split()
    try:
        hf_hub_download(repo, file, revision=revision, token=False if token == '-' else token)
        print('ok')
    except Exception as error:
        while type(error).__name__ == 'LocalEntryNotFoundError' and error.__cause__:
            error = error.__cause__
        print(type(error).__name__)
";
    let cases = [
        ("org/open main config.json -", "ok"),
        ("org/none main config.json -", "RepositoryNotFoundError"),
        ("org/open gone config.json -", "RevisionNotFoundError"),
        ("org/open main gone.json -", "EntryNotFoundError"),
        ("org/gated main config.json -", "GatedRepoError"),
        ("org/gated main config.json hf_0123456789abcdefghijklmnopqrstuvwxyz", "ok"),
        ("org/private main config.json -", "RepositoryNotFoundError"),
        ("org/private main config.json hf_0123456789abcdefghijklmnopqrstuvwxyz", "ok"),
        ("org/disabled main config.json -", "DisabledRepoError"),
    ];
    for version in tools::HUB_VERSIONS {
        let home = tempfile::tempdir().unwrap();
        let said = tools::run_command(
            client(version, &hub, home.path())
                .args(["-c", program])
                .args(cases.iter().map(|(case, _)| case)),
        );
        for ((case, wanted), got) in cases.iter().zip(said.lines()) {
            // 1.x tells remote misses from local ones.
            let got = got.replace("RemoteEntry", "Entry");
            assert_eq!(got, *wanted, "huggingface_hub {version}: {case}");
        }
        assert_eq!(said.lines().count(), cases.len(), "huggingface_hub {version}");
    }
}

#[test]
fn curl_goes_on_in_the_middle_of_a_file() {
    let hub = TestHub::start();
    let url = format!("{}/{MINILM}/resolve/main/model.safetensors", hub.url());

    let head = tools::run_command(tools::tool_command("curl").args([
        "-sS",
        "-r",
        "90868370-",
        "-D-",
        "-o/dev/null",
        &url,
    ]));

    assert!(head.starts_with("HTTP/1.1 206"), "{head}");
    assert!(head.contains("Content-Range: bytes 90868370-90868375/90868376"), "{head}");
    assert!(hub.read_log().contains("bytes=90868370- 206 6"), "{}", hub.read_log());
}

#[test]
fn transformers_loads_the_model_from_the_hub() {
    let hub = TestHub::start();
    let home = tempfile::tempdir().unwrap();
    let program = r"
import sys
from transformers import AutoConfig, AutoTokenizer
from huggingface_hub import hf_hub_download
from safetensors.numpy import load_file
repo = sys.argv[1]
assert AutoConfig.from_pretrained(repo).hidden_size == 384
assert len(AutoTokenizer.from_pretrained(repo)('air gap')['input_ids']) == 4
assert load_file(hf_hub_download(repo, 'model.safetensors'))['embeddings.word_embeddings.weight'].shape == (30522, 384)
";

    tools::run_command(
        Command::new(tools::main_python())
            .args(["-c", program, MINILM])
            .env("HF_ENDPOINT", hub.url())
            .env("HF_HOME", home.path()),
    );
}
