//! Shared by the tests: users with an input, a lock or a bundle, and a small chart.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each story uses a part"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use testkit::{Gantry, TestEnvironment, tools};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_gantry");
pub(crate) const MODEL: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// An input with images of three hosts and a model.
pub(crate) const INPUT: &str = "\
version: 1
name: site
platforms: [linux/amd64]
images:
  - docker.io/library/nginx:1.22
  - docker.io/library/redis:7.0
  - quay.io/gantry-examples/dns:2.90
  - ghcr.io/gantry-examples/tools:1.0
models:
  - hf: sentence-transformers/all-MiniLM-L6-v2
";

/// An input with one small image.
pub(crate) const SMALL: &str = "\
version: 1
name: small
images: [ghcr.io/gantry-examples/tools:1.0]
";

/// A user with this input.
pub(crate) fn user(world: &TestEnvironment, input: &str) -> Gantry {
    let gantry = world.gantry(BINARY);
    gantry.write_file("gantry.yaml", input);
    gantry
}

/// A user without a [`World`]: no registry, no Hub, no mirrors.
pub(crate) fn alone(home: &Path) -> Gantry {
    fs::write(home.join("config.yaml"), "# nothing\n").unwrap();
    Gantry::new(BINARY, home)
}

/// A user whose input is locked and fetched.
pub(crate) fn fetched(world: &TestEnvironment, input: &str) -> Gantry {
    let gantry = user(world, input);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    gantry
}

/// Packs into `folder` and returns the bundle files in their order.
pub(crate) fn pack(gantry: &Gantry, folder: &Path, size: &str) -> Vec<PathBuf> {
    gantry.run(["pack", "-o", &text(folder), "--file-size", size]).assert_success();
    volumes(folder)
}

pub(crate) fn volumes(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut volumes: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "gantry")).collect();
    volumes.sort();
    volumes
}

/// Extracts bundle files with tar, joins split blobs with `cat`, and returns the OCI layout.
pub(crate) fn joined(volumes: &[PathBuf], layout: &Path) -> PathBuf {
    fs::create_dir(layout).unwrap();
    for volume in volumes {
        let mut tar = Command::new("tar");
        tools::run_command(tar.arg("-xf").arg(volume).arg("-C").arg(layout));
    }
    let join = "cd blobs/sha256 && for f in *.*; do cat \"$f\" >> \"${f%%.*}\"; rm \"$f\"; done";
    tools::run_command(Command::new("sh").args(["-ec", join]).current_dir(layout));
    layout.to_owned()
}

/// Runs a line of bash in the folder of a user; `$0` is the binary.
pub(crate) fn in_shell(gantry: &Gantry, line: &str) -> Output {
    let command = gantry.command(["-c", line, BINARY]);
    let mut shell = Command::new("bash");
    shell.args(command.get_args()).current_dir(gantry.folder()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.output().unwrap()
}

/// Runs Gantry on a terminal of its own (util-linux's `script`), and types these lines. Returns the exit
/// code and what the terminal showed.
pub(crate) fn on_terminal(gantry: &Gantry, arguments: &str, typed: &[&str]) -> (i32, String) {
    let typed: String = typed.iter().flat_map(|line| [*line, "\\n"]).collect();
    let line = format!("printf '{typed}' | script -qec \"'$0' {arguments}\" /dev/null");
    let run = in_shell(gantry, &line);
    let shown = String::from_utf8_lossy(&run.stdout).into_owned();
    (run.status.code().unwrap_or(-1), shown)
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// All files below a folder with their content's length, for comparing before and after. A file that goes
/// while the folder is read, as some running command renames it, is left out.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => panic!("{}: {error}", entry.path().display()),
            };
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                found.push((entry.path(), metadata.len()));
            }
        }
    }
    found.sort();
    found
}

/// Writes a chart to `folder/shop` with images in the forms that charts use: parts in values, an argument,
/// a test's pod, one that is turned off, and a service that connects to the outside.
pub(crate) fn chart(folder: &Path) -> PathBuf {
    let chart = folder.join("shop");
    fs::create_dir_all(chart.join("templates")).unwrap();
    for (name, text) in SHOP {
        fs::write(chart.join(name), text).unwrap();
    }
    chart
}

const SHOP: [(&str, &str); 5] = [
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.0\n"),
    (
        "values.yaml",
        "\
image: {registry: quay.io, repository: shop/web, tag: '2.1'}
helper: ghcr.io/shop/helper:1
tester: busybox:1.35
imagePullSecrets: []
telemetry_disabled: false
gpu:
  enabled: false
  image: nvcr.io/shop/gpu:3
",
    ),
    (
        "templates/web.yaml",
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      imagePullSecrets: {{ toJson .Values.imagePullSecrets }}
      containers:
        - name: web
          image: \"{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}\"
          args: [\"--helper-image={{ .Values.helper }}\"]
          env:
            - {name: HUB, value: \"https://huggingface.co/api\"}
            - {name: QUIET, value: \"{{ .Values.telemetry_disabled }}\"}
",
    ),
    (
        "templates/gpu.yaml",
        "\
{{- if .Values.gpu.enabled }}
kind: Pod
apiVersion: v1
metadata: {name: gpu}
spec:
  imagePullSecrets: {{ toJson .Values.imagePullSecrets }}
  containers: [{name: gpu, image: \"{{ .Values.gpu.image }}\"}]
{{- end }}
",
    ),
    (
        "templates/test.yaml",
        "\
kind: Pod
apiVersion: v1
metadata: {name: try, annotations: {helm.sh/hook: test}}
spec:
  imagePullSecrets: {{ toJson .Values.imagePullSecrets }}
  containers: [{name: try, image: \"{{ .Values.tester }}\"}]
",
    ),
];

/// A web server for a folder, on loopback; stopped on drop.
pub(crate) struct Web {
    child: Child,
    url: String,
}

impl Web {
    /// Serves the folder.
    pub(crate) fn serve(folder: &Path) -> Self {
        let mut child = tools::tool_command("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        // "Serving HTTP on 127.0.0.1 port 8000 (http://127.0.0.1:8000/) ..."
        let url = line.split(['(', ')']).nth(1).unwrap().trim_end_matches('/').to_owned();
        Self { child, url }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
