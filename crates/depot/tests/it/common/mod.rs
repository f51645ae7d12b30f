//! The environment of the depot's tests: real images, a chart and a real model in a store, and a
//! depot that serves it on a free port of loopback.
#![allow(dead_code, reason = "every test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gantry_depot::{Depot, DepotSummary};
use serde_json::{Value, json};
use store::progress::SilentProgress;
use store::{Source, Store};
use tempfile::TempDir;
use testkit::{MINILM, TestImages, tools};
use types::{Descriptor, Digest, Reference, Root, RootKind, media_type};

/// A running depot; it ends when dropped.
pub(crate) struct Served {
    pub(crate) host: String,
    pub(crate) summary: DepotSummary,
    running: Option<net::serve::RunningServer>,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    pub(crate) fn new(source: impl Source) -> Self {
        let depot = Arc::new(Depot::open(Arc::new(source)).unwrap());
        let summary = depot.summarize();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config = net::serve::ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None };
        let mut service =
            net::serve::HttpService::new(gantry_depot::build_router(Arc::clone(&depot)));
        depot.register_metrics(&mut service.metrics);
        service.readiness = depot;
        let running = runtime.block_on(net::serve::start_service(&config, service)).unwrap();
        let host = running.address().to_string();
        Self { host, summary, running: Some(running), runtime }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// What curl sees: status, headers in lower case, body.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        let folder = tempfile::tempdir().unwrap();
        let (headers, body) = (folder.path().join("headers"), folder.path().join("body"));
        let mut command = tools::tool_command("curl");
        command.args(["--silent", "--show-error", "--path-as-is", "--globoff"]);
        command.arg("--dump-header").arg(&headers).arg("--output").arg(&body);
        tools::run_command(command.args(arguments).arg(self.url(path)));
        let text = fs::read_to_string(headers).unwrap();
        let mut lines = text.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Answer { status, headers, body: fs::read(body).unwrap_or_default() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.curl(path, &[])
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.drain_requests(Duration::ZERO));
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A store in a temporary folder.
pub(crate) struct Filled {
    pub(crate) store: Store,
    pub(crate) images: TestImages,
    pub(crate) folder: TempDir,
}

impl Filled {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        Self { store, images: TestImages::fast(), folder }
    }

    /// With the fast images; of busybox only `linux/amd64`: a sparse index.
    pub(crate) fn with_images(self) -> Self {
        let left_out = self.arm_of_busybox();
        for digest in self.images.unique_blobs().into_keys() {
            if !left_out.contains(&digest) {
                self.store.add_file(self.images.blob_path(&digest)).unwrap();
            }
        }
        let roots: Vec<Root> = self
            .images
            .iter()
            .flat_map(|image| {
                let children = |document: &&testkit::images::TestManifest| {
                    document.tag.is_some() || self.manifest(&document.digest)["subject"].is_object()
                };
                image.manifests.iter().filter(children).map(|document| {
                    let descriptor =
                        Descriptor::new(&document.media_type, document.digest, document.size);
                    match &document.tag {
                        Some(tag) if tag == image.tag() => {
                            Root::new(image.reference.clone(), RootKind::Image, descriptor)
                        }
                        Some(tag) => {
                            let name = image.reference.with_tag(tag).unwrap();
                            Root::new(name, RootKind::Attached, descriptor)
                        }
                        None => {
                            let name = image.reference.with_digest(document.digest);
                            Root::new(name, RootKind::Attached, descriptor)
                        }
                    }
                })
            })
            .collect();
        self.store.publish_roots(&roots).unwrap();
        self
    }

    /// Adds a chart that helm itself created and packaged: `ghcr.io/charts/hello:0.1.0`.
    pub(crate) fn with_chart(self) -> Self {
        let folder = self.folder.path();
        tools::run_command(
            tools::tool_command("helm").args(["create", "hello"]).current_dir(folder),
        );
        tools::run_command(
            tools::tool_command("helm").args(["package", "hello"]).current_dir(folder),
        );
        let (layer, size) = self.store.add_file(folder.join("hello-0.1.0.tgz")).unwrap();
        let config =
            br#"{"name":"hello","version":"0.1.0","apiVersion":"v2","type":"application"}"#;
        let config_digest = self.store.put_bytes(config).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": Descriptor::new(
                "application/vnd.cncf.helm.config.v1+json", config_digest, config.len() as u64),
            "layers": [Descriptor::new(
                "application/vnd.cncf.helm.chart.content.v1.tar+gzip", layer, size)],
        });
        self.put(
            "ghcr.io/charts/hello:0.1.0",
            RootKind::Chart,
            media_type::OCI_MANIFEST,
            &manifest,
        );
        self
    }

    /// Adds the real MiniLM model at `main` and returns its commit.
    pub(crate) fn with_minilm(self) -> (Self, String) {
        let commit = self.model(&tools::model_folder(), MINILM, "main");
        (self, commit)
    }

    /// Adds a folder as a model and returns its commit.
    pub(crate) fn model(&self, folder: &Path, id: &str, revision: &str) -> String {
        let (id, all) = (id.parse().unwrap(), remote::hub::ModelFileFilter::accept_all());
        let snapshot = remote::local::import_model_from_folder(
            folder,
            &id,
            revision,
            &all,
            &self.store,
            &SilentProgress,
        )
        .unwrap();
        let documents = snapshot.write_to_store(&self.store).unwrap();
        self.store.publish_roots(&[documents.root]).unwrap();
        snapshot.commit.to_string()
    }

    /// Stores a manifest and publishes it under a name.
    pub(crate) fn put(
        &self,
        name: &str,
        kind: RootKind,
        media_type: &str,
        manifest: &Value,
    ) -> Digest {
        let bytes = manifest.to_string();
        let digest = self.store.put_bytes(bytes.as_bytes()).unwrap();
        let name: Reference = name.parse().unwrap();
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.store.publish_roots(&[Root::new(name, kind, descriptor)]).unwrap();
        digest
    }

    /// Packs the whole store into bundle files of this size and returns their paths.
    pub(crate) fn volumes(&self, below: bundle::BundleFileSize) -> Vec<PathBuf> {
        let contents = bundle::BundleContents {
            roots: self.store.roots().unwrap(),
            lock: b"version: 1\n".to_vec(),
        };
        let naming = bundle::BundleName::new("world", "1").unwrap();
        let plan = bundle::plan_files(&self.store, contents, naming, below).unwrap();
        let out = self.folder.path().join("volumes");
        let packed = bundle::pack_to_folder(
            &self.store,
            &plan,
            &out,
            bundle::Recheck::Index,
            &SilentProgress,
        )
        .unwrap();
        packed.files.into_iter().map(|volume| volume.path).collect()
    }

    /// The manifest and config of busybox for arm64, which the store lacks; its layers are another
    /// image's as well.
    pub(crate) fn arm_of_busybox(&self) -> [Digest; 2] {
        let digest = |value: &Value| value["digest"].as_str().unwrap().parse::<Digest>().unwrap();
        let index = self.manifest(&self.images.get(BUSYBOX).digest);
        let mut children = index["manifests"].as_array().unwrap().iter();
        let arm = children.find(|child| child["platform"]["architecture"] == "arm64").unwrap();
        [digest(arm), digest(&self.manifest(&digest(arm))["config"])]
    }

    /// A document of the image set.
    pub(crate) fn manifest(&self, digest: &Digest) -> Value {
        serde_json::from_slice(&fs::read(self.images.blob_path(digest)).unwrap()).unwrap()
    }
}

pub(crate) const BUSYBOX: &str = "docker.io/library/busybox:1.35";
pub(crate) const NGINX: &str = "docker.io/library/nginx:1.22";

/// A Python environment of `dev/setup` as a client of the depot, with its own home folder.
pub(crate) fn python(interpreter: &Path, served: &Served, home: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command
        .env("HF_ENDPOINT", served.url(""))
        .env("HF_HOME", home)
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE");
    command
}
