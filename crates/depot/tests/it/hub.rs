//! The Hugging Face endpoint with the unmodified clients that it is made for: five versions of
//! huggingface_hub, transformers, safetensors, curl.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use crate::common::{self, Filled, Served, python};
use testkit::{MINILM, tools};

/// What users of huggingface_hub do, in calls that all five versions have.
const USE: &str = r"
import filecmp, sys
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils import (
    EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError)
repo, source, commit = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
api = HfApi()
def fails(error, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except error as caught:
        assert type(caught) is error or error is EntryNotFoundError, type(caught)
        return
    raise AssertionError(f'{call.__name__}{arguments} did not fail')

names = sorted(p.relative_to(source).as_posix() for p in source.rglob('*') if p.is_file())
size = {name: (source / name).stat().st_size for name in names}
config = Path(hf_hub_download(repo, 'config.json'))
assert config.read_bytes() == (source / 'config.json').read_bytes()
assert config.parent.name == commit
assert Path(hf_hub_download(repo, '1_Pooling/config.json', revision=commit)).exists()
got = Path(snapshot_download(repo, revision='main'))
assert got.name == commit, (got, commit)
assert names == sorted(p.relative_to(got).as_posix() for p in got.rglob('*') if p.is_file())
match, mismatch, errors = filecmp.cmpfiles(source, got, names, shallow=False)
assert not mismatch and not errors, (mismatch, errors)
assert snapshot_download(repo, revision=commit, allow_patterns='*.json') == str(got)
plain = Path(snapshot_download(repo, local_dir=sys.argv[4], allow_patterns=['*.json']))
assert (plain / 'tokenizer.json').stat().st_size == size['tokenizer.json']

info = api.model_info(repo, files_metadata=True)
assert (info.id, info.sha) == (repo, commit), info
assert {f.rfilename: f.size for f in info.siblings} == size
weights = next(f for f in info.siblings if f.rfilename == 'model.safetensors')
lfs = weights.lfs
assert (lfs['sha256'] if isinstance(lfs, dict) else lfs.sha256) == Path(
    hf_hub_download(repo, 'model.safetensors')).resolve().name
assert api.model_info(repo, revision=commit).sha == commit
assert api.repo_info(repo, expand=['sha']).sha == commit if 'expand' in api.repo_info.__code__.co_varnames else True
assert sorted(api.list_repo_files(repo)) == names

tree = list(api.list_repo_tree(repo, recursive=True, expand=True))
assert {e.path: e.size for e in tree if hasattr(e, 'size')} == size
assert [e.path for e in tree if not hasattr(e, 'size')] == ['1_Pooling']
top = {e.path for e in api.list_repo_tree(repo)}
assert '1_Pooling' in top and '1_Pooling/config.json' not in top
assert [e.path for e in api.list_repo_tree(repo, path_in_repo='1_Pooling')] == ['1_Pooling/config.json']
fails(EntryNotFoundError, lambda: list(api.list_repo_tree(repo, path_in_repo='nowhere')))
paths = {e.path: e for e in api.get_paths_info(repo, ['config.json', 'model.safetensors', '1_Pooling', 'no'])}
assert set(paths) == {'config.json', 'model.safetensors', '1_Pooling'}
assert paths['model.safetensors'].lfs.size == size['model.safetensors']

assert api.file_exists(repo, 'config.json') and not api.file_exists(repo, 'no.json')
assert api.repo_exists(repo) and not api.repo_exists('org/none')
assert api.revision_exists(repo, 'main') and not api.revision_exists(repo, 'no/such')
assert [(b.name, b.target_commit) for b in api.list_repo_refs(repo).branches] == [('main', commit)]
assert api.whoami(token='hf_' + 'a' * 34)['name']
fails(RepositoryNotFoundError, hf_hub_download, 'org/none', 'config.json')
fails(RevisionNotFoundError, hf_hub_download, repo, 'config.json', revision='v9')
fails(EntryNotFoundError, hf_hub_download, repo, 'no.json')
fails(RepositoryNotFoundError, api.dataset_info, repo)
assert (got.parent.parent / '.no_exist' / commit / 'no.json').exists()
";

/// The same files from the cache, without a server.
const OFFLINE: &str = r"
import sys
from pathlib import Path
from huggingface_hub import hf_hub_download, snapshot_download
got = Path(snapshot_download(sys.argv[1]))
assert got.name == sys.argv[2]
assert Path(hf_hub_download(sys.argv[1], 'config.json')).parent == got
";

#[test]
fn every_checked_version_of_huggingface_hub_does_its_work_and_again_offline() {
    let (world, commit) = Filled::new().with_minilm();
    let served = Served::new(world.store.clone());
    for version in tools::HUB_VERSIONS {
        let (home, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let interpreter = tools::hub_python(version);
        tools::run_command(
            python(&interpreter, &served, home.path())
                .args(["-c", USE, MINILM])
                .arg(tools::model_folder())
                .arg(&commit)
                .arg(plain.path()),
        );
        tools::run_command(
            python(&interpreter, &served, home.path())
                .args(["-c", OFFLINE, MINILM, &commit])
                .env_remove("HF_ENDPOINT")
                .env("HF_HUB_OFFLINE", "1"),
        );
    }
}

#[test]
fn hf_download_brings_the_model_as_a_person_types_it() {
    let (world, commit) = Filled::new().with_minilm();
    let served = Served::new(world.store.clone());
    let home = tempfile::tempdir().unwrap();
    let hf = tools::venv_program("hub-2.4.0", "hf");
    let output = tools::run_command(python(&hf, &served, home.path()).args(["download", MINILM]));
    assert!(output.contains(&commit), "{output}");
}

/// A tokenizer, a configuration and weights, as an inference server loads them.
const TRANSFORMERS: &str = r"
import sys
from huggingface_hub import hf_hub_download
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoTokenizer
repo = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(repo)
ids = tokenizer('Across the gap.')['input_ids']
assert tokenizer.decode(ids, skip_special_tokens=True) == 'across the gap.', ids
config = AutoConfig.from_pretrained(repo)
weights = load_file(hf_hub_download(repo, 'model.safetensors'))
embeddings = weights['embeddings.word_embeddings.weight']
assert embeddings.shape == (config.vocab_size, config.hidden_size), embeddings.shape
";

#[test]
fn transformers_loads_tokenizer_config_and_weights_and_again_offline() {
    let (world, _) = Filled::new().with_minilm();
    let served = Served::new(world.store.clone());
    let home = tempfile::tempdir().unwrap();
    let load = |program: &mut std::process::Command| {
        tools::run_command(program.args(["-c", TRANSFORMERS, MINILM]));
    };
    load(&mut python(&tools::main_python(), &served, home.path()));
    drop(served);
    let nowhere = Served::new(Filled::new().store);
    load(
        python(&tools::main_python(), &nowhere, home.path())
            .env_remove("HF_ENDPOINT")
            .env("HF_HUB_OFFLINE", "1"),
    );
}

/// A small model with special cases: an empty file, an LFS file, a folder in a folder, a name
/// with a space, a name that looks like a part of a route.
fn small_model(folder: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write(".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n");
    write("empty.txt", b"");
    write("weights.bin", b"0123456789");
    write("a/b/with space.json", b"{}");
    write("tree/revision/raw/x.json", b"[]");
}

fn small() -> (Filled, Served, String) {
    let world = Filled::new();
    let folder = world.folder.path().join("small");
    small_model(&folder);
    let commit = world.model(&folder, "Org/Small", "feature/x");
    let served = Served::new(world.store.clone());
    (world, served, commit)
}

#[test]
fn resolve_answers_with_the_headers_that_clients_need() {
    let (_world, served, commit) = small();

    let lfs = served.curl("/Org/Small/resolve/feature%2Fx/weights.bin", &["--head"]);
    let sha256 = store::hash::sha256(b"0123456789").hex();
    assert_eq!(lfs.status, 200);
    assert_eq!(lfs.header("x-repo-commit"), Some(commit.as_str()));
    assert_eq!(lfs.header("etag"), Some(format!("\"{sha256}\"").as_str()));
    assert_eq!(lfs.header("x-linked-etag"), lfs.header("etag"));
    assert_eq!(lfs.header("x-linked-size"), Some("10"));
    assert_eq!(lfs.header("content-length"), Some("10"));
    assert_eq!(lfs.header("accept-ranges"), Some("bytes"));

    let plain = served.get(&format!("/Org/Small/resolve/{commit}/a/b/with%20space.json"));
    assert_eq!((plain.status, plain.text().as_str()), (200, "{}"));
    // `printf '{}' | git hash-object --stdin`
    assert_eq!(plain.header("etag"), Some("\"9e26dfeeb6e641a33dae4961196235bdb965b21b\""));
    assert_eq!(plain.header("x-linked-etag"), None);

    let nested = served.get(&format!("/Org/Small/resolve/{commit}/tree/revision/raw/x.json"));
    assert_eq!((nested.status, nested.text().as_str()), (200, "[]"));
}

#[test]
fn ranges_are_answered_as_each_client_asks_for_them() {
    let (_world, served, commit) = small();
    let weights = format!("/org/small/resolve/{commit}/weights.bin");
    for (range, status, content_range, body) in [
        ("0-0", 206, "bytes 0-0/10", "0"),
        ("4-", 206, "bytes 4-9/10", "456789"),
        ("-3", 206, "bytes 7-9/10", "789"),
        ("0-10", 206, "bytes 0-9/10", "0123456789"),
        ("10-", 416, "bytes */10", ""),
    ] {
        let answer = served.curl(&weights, &["--range", range]);
        assert_eq!(answer.status, status, "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range));
        assert_eq!(answer.text(), body);
        assert_eq!(answer.header("x-repo-commit"), Some(commit.as_str()));
    }
    let empty = served.curl(&format!("/Org/Small/resolve/{commit}/empty.txt"), &["--range", "0-0"]);
    assert_eq!((empty.status, empty.header("content-range")), (200, Some("bytes */0")));
    assert_eq!(empty.header("content-length"), Some("0"));

    let stale = served.curl(&weights, &["--range", "4-", "--header", "If-Range: \"other\""]);
    assert_eq!((stale.status, stale.text().as_str()), (200, "0123456789"));
}

#[test]
fn a_client_that_has_the_file_is_told_so() {
    let (_world, served, commit) = small();
    let path = format!("/Org/Small/resolve/{commit}/weights.bin");
    let etag = served.curl(&path, &["--head"]).header("etag").unwrap().to_owned();

    let known = served.curl(&path, &["--head", "--header", &format!("If-None-Match: {etag}")]);

    assert_eq!(known.status, 304);
    assert_eq!(known.header("etag"), Some(etag.as_str()));
    assert_eq!(known.header("x-repo-commit"), Some(commit.as_str()));
}

#[test]
fn raw_gives_the_pointer_of_an_lfs_file() {
    let (_world, served, commit) = small();
    let sha256 = store::hash::sha256(b"0123456789").hex();

    let pointer = served.get(&format!("/Org/Small/raw/{commit}/weights.bin"));
    let text = served.get(&format!("/Org/Small/raw/{commit}/a/b/with%20space.json"));

    let expected =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 10\n");
    assert_eq!(pointer.text(), expected);
    assert_eq!(text.text(), "{}");
}

#[test]
fn every_miss_has_its_own_code() {
    let (_world, served, commit) = small();
    for (path, code, said) in [
        ("/api/models/org/none", "RepoNotFound", "org/none"),
        ("/org/none/resolve/main/x", "RepoNotFound", "org/none"),
        ("/datasets/org/data/resolve/main/x", "RepoNotFound", "org/data"),
        ("/api/models/Org/Small/revision/v9", "RevisionNotFound", "feature/x"),
        ("/Org/Small/resolve/v9/empty.txt", "RevisionNotFound", &commit),
        ("/Org/Small/resolve/feature%2Fx/none", "EntryNotFound", "none"),
        ("/Org/Small/resolve/feature%2Fx/..%2F..%2Fetc%2Fpasswd", "EntryNotFound", "passwd"),
        ("/api/models/Org/Small/tree/feature%2Fx/none", "EntryNotFound", "none"),
    ] {
        let answer = served.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("x-error-code"), Some(code), "{path}");
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.contains(said), "{path}: {message}");
        let has_commit = answer.header("x-repo-commit") == Some(&commit);
        assert_eq!(has_commit, code == "EntryNotFound", "{path}");
    }
    let login = served.get("/api/whoami-v2");
    assert_eq!(login.status, 401);
    assert_eq!(
        login.header("x-error-message"),
        Some("Invalid credentials in Authorization header")
    );
    let delete = served.curl("/api/models/Org/Small", &["--request", "DELETE"]);
    assert_eq!((delete.status, delete.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_path_cannot_leave_what_is_served() {
    let (_world, served, commit) = small();
    for path in [
        "/../../../../etc/passwd".to_owned(),
        "/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        format!("/Org/Small/resolve/{commit}/../../../../etc/passwd"),
        format!("/Org/Small/raw/{commit}/%2Fetc%2Fpasswd"),
        "/v2/../../etc/passwd/manifests/1".to_owned(),
        "/v2/org/small/blobs/..%2f..%2findex.json".to_owned(),
    ] {
        let answer = served.get(&path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains("root:"), "{path}");
    }
}

#[test]
fn paths_are_asked_as_a_form_or_as_json_and_only_so_many() {
    let (_world, served, commit) = small();
    let path = format!("/api/models/Org/Small/paths-info/{commit}");
    let json = ["--header", "Content-Type: application/json", "--data"];

    let form = served.curl(&path, &["--data", "paths=empty.txt&paths=a&expand=False"]);
    let listed = served.curl(&path, &[&json[..], &[r#"{"paths": ["weights.bin"]}"#]].concat());
    let wrong = served.curl(&path, &[&json[..], &["nonsense"]].concat());
    let folder = tempfile::tempdir().unwrap();
    let many = folder.path().join("many");
    fs::write(&many, "paths=x&".repeat(30_000)).unwrap();
    let many = served.curl(&path, &["--data", &format!("@{}", many.display())]);

    let paths = |answer: &common::Answer| -> Vec<String> {
        let entries = answer.json();
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| format!("{} {}", entry["type"], entry["path"])).collect()
    };
    assert_eq!(paths(&form), [r#""file" "empty.txt""#, r#""directory" "a""#]);
    assert_eq!(paths(&listed), [r#""file" "weights.bin""#]);
    assert_eq!(wrong.status, 400);
    assert_eq!(many.status, 400);
}

#[test]
fn a_model_is_there_in_several_commits_and_in_any_case_of_its_name() {
    let world = Filled::new();
    let folder = world.folder.path().join("small");
    small_model(&folder);
    let old = world.model(&folder, "Org/Small", "v1");
    fs::write(folder.join("empty.txt"), "no longer").unwrap();
    let new = world.model(&folder, "Org/Small", "main");
    let served = Served::new(world.store.clone());

    let get = |revision: &str| served.get(&format!("/org/SMALL/resolve/{revision}/empty.txt"));

    assert_eq!((get("v1").text(), get(&old).text()), (String::new(), String::new()));
    assert_eq!((get("main").text(), get(&new).text()), ("no longer".into(), "no longer".into()));
    assert_eq!(served.get("/api/models/org/small").json()["sha"], new.as_str());
    assert_eq!(served.get("/api/models/org/small").json()["id"], "Org/Small");
    assert_eq!(served.get("/api/models/org/small/revision/v1").json()["sha"], old.as_str());
    let tags = served.get("/v2/huggingface.co/org/small/tags/list").json();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 4, "{tags}");
}

#[test]
fn llama_cpp_learns_which_file_a_tag_means() {
    let world = Filled::new();
    let folder = world.folder.path().join("gguf");
    fs::create_dir(&folder).unwrap();
    for name in ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-f16.gguf"] {
        fs::write(folder.join(name), name).unwrap();
    }
    world.model(&folder, "org/m-GGUF", "main");
    let served = Served::new(world.store.clone());
    let ask = |tag: &str| {
        let path = format!("/v2/org/m-GGUF/manifests/{tag}");
        served.curl(&path, &["--user-agent", "llama-cpp"]).json()
    };

    assert_eq!(ask("latest")["ggufFile"]["rfilename"], "m-Q4_K_M.gguf");
    assert_eq!(ask("q8_0")["ggufFile"]["rfilename"], "m-Q8_0.gguf");
    assert_eq!(ask("Q8_0")["mmprojFile"]["rfilename"], "mmproj-m-f16.gguf");
}
