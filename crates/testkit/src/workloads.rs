//! What runs in the cluster tests: the names of the images of
//! [`TestImages::cluster`](crate::Images::cluster), a model that llama.cpp and Ollama really load, and
//! the charts that run them.
//!
//! ```text
//!  images  ──Images::cluster().place / layout──▶ a registry ┐
//!  models  ──gguf, ollama, hub_cache──▶ a volume, a bucket  ├──▶ charts ──▶ pods that answer
//!  charts  ──package──▶ NAME-VERSION.tgz                    ┘
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::hub::{MINILM, TestHub};
use crate::images::{blobs, python};
use crate::{build_once, folder_files, tools};

/// llama-cpp-python's OpenAI server, port 8000; the arguments of its pod name the GGUF.
pub const LLAMA_SERVER: &str = "ghcr.io/example/llama-server:0.3.16";
/// An embedding server over a Hugging Face cache, port 8080: OpenAI's, TEI's and SIE's protocols.
pub const EMBED_SERVER: &str = "ghcr.io/example/embed-server:1.0";
/// The same as a worker of SIE: `serve --host --port --bundle`, cache from a bucket.
pub const SIE_SERVER: &str = "ghcr.io/example/sie-server:1.0-cpu-default";
/// Ollama with its runner for the CPU, port 11434.
pub const OLLAMA: &str = "docker.io/ollama/ollama:0.6.8";
/// Debian's PostgreSQL 15 under the name that Bitnami's chart 17.1.0 asks for.
pub const POSTGRESQL: &str = "docker.io/bitnami/postgresql:17.6.0-debian-12-r4";
/// Debian's Redis 7 under the name that Bitnami's chart 23.1.1 asks for.
pub const REDIS: &str = "docker.io/bitnami/redis:8.2.1-debian-12-r0";
/// The same for the small chart `cache`.
pub const REDIS_CACHE: &str = "quay.io/example/redis:7.0";
/// A busybox that phones home in the chart of that name.
pub const CURIOUS: &str = "docker.io/example/curious:1.0";
/// A busybox that does not.
pub const QUIET: &str = "docker.io/example/quiet:1.0";

/// The name of the small model in Ollama: `registry.ollama.ai/library/gantry-tiny:latest`.
pub const OLLAMA_MODEL: &str = "gantry-tiny:latest";

/// Makes the GGUF.
const TINY_MODEL: &str = include_str!("../workloads/tiny_model.py");
/// What it needs.
const TINY_MODEL_NEEDS: [&str; 5] =
    ["gguf==0.19.0", "numpy==2.4.6", "PyYAML==6.0.3", "requests==2.34.2", "tqdm==4.70.1"];

/// A llama model of 5 MB with random weights and a real tokenizer, always the same bytes: its
/// answers are text without a meaning, exactly as long as was asked for.
pub fn gguf_path() -> PathBuf {
    let key =
        blobs::sha256_digest(format!("{TINY_MODEL} {TINY_MODEL_NEEDS:?}").as_bytes()).short_hex();
    let folder = build_once::build_folder_once(&format!("gguf/{key}"), |folder| {
        let program = folder.join("tiny_model.py");
        fs::write(&program, TINY_MODEL).expect("a program can be written");
        let mut command = Command::new(python::python_program());
        command.arg(&program).arg(folder.join("gantry-tiny.gguf"));
        tools::run_command(command.env("PYTHONPATH", python::install_packages(&TINY_MODEL_NEEDS)));
    });
    folder.join("gantry-tiny.gguf")
}

/// One file of an Ollama model: what its layer is, and its bytes.
struct LlmPart {
    media_type: &'static str,
    bytes: Vec<u8>,
}

/// Writes Ollama's models folder (`manifests/`, `blobs/`) with the small model as [`OLLAMA_MODEL`]
/// (Ollama keeps a registry's manifest verbatim below `manifests/`, and blobs as
/// `blobs/sha256-HEX`). Returns the manifest.
pub fn write_ollama_models(models: &Path) -> Vec<u8> {
    let layer = |media_type, bytes| LlmPart { media_type, bytes };
    let config = json!({"model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
        "model_type": "2.6M", "file_type": "F16", "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []}});
    let config =
        layer("application/vnd.docker.container.image.v1+json", config.to_string().into_bytes());
    let layers = [
        layer(
            "application/vnd.ollama.image.model",
            fs::read(gguf_path()).expect("the model can be read"),
        ),
        layer(
            "application/vnd.ollama.image.template",
            b"{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n".to_vec(),
        ),
        layer(
            "application/vnd.ollama.image.params",
            br#"{"num_ctx":512,"num_predict":16,"stop":["<|im_end|>"]}"#.to_vec(),
        ),
    ];
    let folder = models.join("blobs");
    fs::create_dir_all(&folder).expect("a models folder can be made");
    let written = |part: &LlmPart| {
        let digest = blobs::sha256_digest(&part.bytes).to_string();
        let file = folder.join(digest.replace(':', "-"));
        fs::write(file, &part.bytes).expect("a blob can be written");
        json!({"mediaType": part.media_type, "digest": digest, "size": part.bytes.len()})
    };
    let manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": written(&config), "layers": layers.iter().map(written).collect::<Vec<_>>()});
    let (name, tag) = OLLAMA_MODEL.split_once(':').expect("the model's name has a tag");
    let file = models.join("manifests/registry.ollama.ai/library").join(name).join(tag);
    fs::create_dir_all(file.parent().expect("a file has a folder")).expect("a folder can be made");
    fs::write(file, manifest.to_string()).expect("a manifest can be written");
    manifest.to_string().into_bytes()
}

/// Writes a Hugging Face cache with the real MiniLM model as [`MINILM`] below `hub`
/// (`models--…/{refs/main,snapshots/<commit>/…}`, files in place of links, as a bucket of SIE has
/// it too). Returns the commit.
pub fn write_hub_cache(hub: &Path) -> String {
    let model = tools::model_folder();
    let commit = TestHub::commit_of(MINILM, &model);
    let repo = hub.join(format!("models--{}", MINILM.replace('/', "--")));
    fs::create_dir_all(repo.join("refs")).expect("a cache can be made");
    fs::write(repo.join("refs/main"), &commit).expect("a cache can be written");
    for path in folder_files::list_files(&model) {
        let to = repo.join("snapshots").join(&commit).join(&path);
        fs::create_dir_all(to.parent().expect("a file has a folder")).expect("a cache can be made");
        fs::copy(model.join(&path), to).expect("a cache can be written");
    }
    commit
}
