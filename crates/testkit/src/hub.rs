//! A small Hugging Face Hub (`hub.py`) over folders: the model source of tests and the demo, itself
//! checked against the five versions of huggingface_hub (`tests/hub.rs`).

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

use crate::process::ServerProcess;
use crate::{folder_files, tools};

/// The program; written into the server's folder, so that a binary carries all it needs.
const PROGRAM: &str = include_str!("../hub.py");

/// The repository of the model that `dev/setup` brings.
pub const MINILM: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// A running Hub; killed on drop.
#[derive(Debug)]
pub struct TestHub {
    process: ServerProcess,
    host: String,
    _folder: TempDir,
}

/// What a Hub is to serve, and to whom.
#[derive(Debug, Default)]
#[must_use]
pub struct TestHubBuilder {
    repos: Vec<Value>,
    tokens: Vec<String>,
    redirects: bool,
    page: Option<usize>,
    port: u16,
}

impl TestHub {
    /// A Hub that serves the real MiniLM model as [`MINILM`], to everybody.
    pub fn start() -> Self {
        Self::builder().minilm().start()
    }

    /// An empty Hub, to be filled.
    pub fn builder() -> TestHubBuilder {
        TestHubBuilder::default()
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What `HF_ENDPOINT` is to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// One line a request: method, path, range or `-`, status, bytes of the body.
    pub fn read_log(&self) -> String {
        self.process.output()
    }

    /// The commit under which [`TestHubBuilder::add_repository`] serves a folder: a hash of the repository's
    /// name and its files' names and sizes, so that it is the same on every machine.
    pub fn commit_of(id: &str, folder: &Path) -> String {
        let mut hash = Sha1::new();
        hash.update(id.as_bytes());
        for name in folder_files::list_files(folder) {
            let size = folder.join(&name).metadata().map_or(0, |metadata| metadata.len());
            hash.update(format!("\n{} {size}", name.display()).as_bytes());
        }
        tools::encode_hex(&hash.finalize())
    }
}

impl TestHubBuilder {
    /// Serves a folder as a model repository: branch `main` and tag `v1` at
    /// [`TestHub::commit_of`] it.
    pub fn add_repository(self, id: &str, folder: &Path) -> Self {
        let commit = TestHub::commit_of(id, folder);
        self.add_repository_config(json!({
            "id": id,
            "refs": { "main": commit, "v1": commit },
            "commits": { commit: folder },
        }))
    }

    /// Serves a repository as the configuration of `hub.py` describes it: several commits, other
    /// types than models, private or disabled ones.
    pub fn add_repository_config(mut self, config: Value) -> Self {
        self.repos.push(config);
        self
    }

    /// Serves the real 91 MB model as [`MINILM`].
    pub fn minilm(self) -> Self {
        self.add_repository(MINILM, &tools::model_folder())
    }

    /// Makes the last repository a gated one: its files need a token.
    pub fn gated(self) -> Self {
        self.mark_last_repository("gated")
    }

    /// Makes the last repository a private one: without a token it is not there.
    pub fn private(self) -> Self {
        self.mark_last_repository("private")
    }

    /// Makes the last repository a disabled one.
    pub fn disabled(self) -> Self {
        self.mark_last_repository("disabled")
    }

    /// Knows this token; it opens everything. Others are refused.
    pub fn token(mut self, token: &str) -> Self {
        self.tokens.push(token.to_owned());
        self
    }

    /// Sends clients elsewhere for LFS files, by 302 with a signed address, as the Hub's CDN.
    pub fn lfs_redirects(mut self) -> Self {
        self.redirects = true;
        self
    }

    /// Gives trees in pages of so many entries, linked with `rel="next"`.
    pub fn page(mut self, entries: usize) -> Self {
        self.page = Some(entries);
        self
    }

    /// Listens on this port of loopback.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts it and returns when it listens (all its files have been hashed then).
    pub fn start(self) -> TestHub {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (program, config) = (folder.path().join("hub.py"), folder.path().join("config.json"));
        fs::write(&program, PROGRAM).expect("a program can be written");
        let text = json!({
            "port": self.port, "tokens": self.tokens, "redirects": self.redirects,
            "page": self.page.unwrap_or(1000), "repos": self.repos,
        });
        fs::write(&config, text.to_string()).expect("a config can be written");
        let mut process = ServerProcess::start(
            tools::tool_command("python3").arg(&program).arg(&config),
            &folder.path().join("log"),
        );
        let host = process.wait_for_word_after("listening on ");
        TestHub { process, host, _folder: folder }
    }

    fn mark_last_repository(mut self, property: &str) -> Self {
        let last = self.repos.last_mut().expect("a repository comes before its properties");
        last[property] = json!(true);
        self
    }
}
