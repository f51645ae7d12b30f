//! Real charts: their images are carried across, and what helm renders there uses the site's registry
//! only. The images are small stand-ins with the same names (see [`testkit::ImageList::stand_in_recipe`]). Which
//! images a render names is found by a simple text scan that is independent of Gantry
//! ([`testkit::scan`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::story::{self, pack, text};
use serde_json::Value;
use testkit::{Gantry, TestEnvironment, TestHub, TestImages, TestRegistry, scan, tools};

/// The Kubernetes version that helm renders for; some charts refuse helm's default.
const KUBE_VERSION: &str = "1.33.0";
/// The name of the release.
const RELEASE: &str = "rel";
/// The pull secret of the site.
const SECRET: &str = "site-pull";
/// The site's registry with its path, as in the overlays.
const PREFIX: &str = "ai/platform";

/// A chart that is carried across the air gap.
struct Story {
    world: TestEnvironment,
    gantry: Gantry,
    /// The chart and its values files, as helm takes them.
    chart: PathBuf,
    values: Vec<PathBuf>,
    /// How images are named at the site.
    naming: &'static str,
    /// The images in the site's registry: names and digests.
    landed: BTreeMap<String, String>,
}

/// A chart's images that no overlay moves, grouped by what does move them.
#[derive(Default)]
struct Left {
    /// Literal images in templates: a post-renderer moves them.
    rendered: BTreeSet<String>,
    /// Literal images in hooks: only a post-renderer of helm 4 moves them.
    hooks: BTreeSet<String>,
    /// Images compiled into an operator: only mirrors on the nodes move them.
    compiled_in: BTreeSet<String>,
}

#[test]
fn the_umbrella_of_the_demo_runs_from_the_site_alone() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let umbrella = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/umbrella");
    tools::run_command(tools::tool_command("cp").arg("-R").arg(umbrella).arg(gantry.folder()));
    let chart = gantry.folder().join("umbrella");
    let gantry = gantry.in_folder(&chart);
    let values = vec![chart.join("values-offline.yaml")];
    let story = Story { world, gantry, chart, values, naming: "path", landed: BTreeMap::new() };

    // Its input names an image that no chart does, and a model.
    story.carry(&["docker.io/library/redis:7.0"]).moves_all_but(&Left::default());
}

#[test]
fn postgresql_runs_from_the_site_alone() {
    Story::of("postgresql", "", &[]).carry(&[]).moves_all_but(&Left::default());
}

#[test]
fn redis_runs_from_the_site_alone() {
    Story::of("redis", "", &[]).carry(&[]).moves_all_but(&Left::default());
}

#[test]
fn sie_cluster_runs_from_the_site_alone() {
    // With all of its sub-charts: 24 images of seven hosts.
    let all = "keda: {install: true}\nkube-prometheus-stack: {install: true}\n\
               kubernetes-event-exporter: {install: true}\n";
    let left = Left {
        rendered: set(&["registry.k8s.io/pause:3.10"]),
        hooks: set(&["docker.io/alpine/k8s:1.29.10", "docker.io/library/alpine:3.19"]),
        ..Left::default()
    };

    Story::of("sie-cluster", all, &[]).carry(&[]).moves_all_but(&left);
}

#[test]
fn onyx_runs_from_the_site_alone() {
    let compiled_in = ["ghcr.io/cloudnative-pg/postgresql:18.6-system-trixie"];
    let left = Left {
        hooks: set(&["docker.io/bitnami/kubectl:latest", "docker.io/curlimages/curl:8.10.1"]),
        compiled_in: set(&compiled_in),
        ..Left::default()
    };

    Story::of("onyx", "", &compiled_in).carry(&compiled_in).moves_all_but(&left);
}

#[test]
fn llmkube_runs_from_the_site_alone() {
    Story::of("llmkube", "", &[]).carry(&[]).moves_all_but(&Left::default());
}

#[test]
fn an_image_with_a_digest_is_pulled_by_it_where_hosts_are_kept_apart() {
    let mut story = Story::of("redis", "", &[]);
    let image =
        scan::scan_images(&story.render(None)).into_iter().find(|name| name.contains("/redis:"));
    let digest = story.world.images().get(&image.unwrap()).digest;
    let pinned =
        story.gantry.write_file("pinned.yaml", &format!("image: {{digest: \"{digest}\"}}\n"));
    story.values.push(pinned);
    story.naming = "host-path";

    let story = story.carry(&[]);
    story.moves_all_but(&Left::default());

    let end = format!("docker.io/bitnami/redis@{digest}");
    assert!(story.landed.keys().any(|name| name.ends_with(&end)), "{:?}", story.landed);
}

impl Story {
    /// A chart of `shared/charts` with the realistic values that `cargo xtask charts` has for it and
    /// these behind them, in a world with stand-ins for what it names and for `more`: images that no
    /// render names.
    fn of(name: &str, values: &str, more: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/charts");
        let values = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap() + values;
        let (chart, file) = (tools::chart_archive(name), tempfile::NamedTempFile::new().unwrap());
        fs::write(&file, &values).unwrap();
        let named = scan::scan_images(&render(&chart, &[file.path().to_owned()], None));
        let images =
            TestImages::stand_ins(named.iter().map(String::as_str).chain(more.iter().copied()));
        let world =
            TestEnvironment::from_parts(images, TestRegistry::builder(), TestHub::builder());
        let gantry = world.gantry(story::BINARY);
        let values = vec![gantry.write_file("values.yaml", &values)];
        Self { world, gantry, chart, values, naming: "path", landed: BTreeMap::new() }
    }

    /// Locks, fetches, packs, deletes the store, and loads into the site's registry. The registry then has
    /// exactly the images of the chart and `more`.
    fn carry(mut self, more: &[&str]) -> Self {
        if !self.gantry.folder().join("gantry.yaml").exists() {
            let (chart, values) = (self.chart.display(), &self.values);
            let input = format!(
                "version: 1\nname: moved\nplatforms: [linux/amd64, linux/arm64]\n\
                 charts: [{{chart: \"{chart}\", release: {RELEASE}, values: {values:?}}}]\n"
            );
            self.gantry.write_file("gantry.yaml", &input);
        }
        let locked = self.gantry.run(["lock"]).assert_success();
        // A likely image that no registry has is left out with a note; none of these may be.
        assert!(!locked.stderr.contains("left out"), "{}", locked.stderr);
        self.gantry.run(["fetch"]).assert_success();
        let media = tempfile::tempdir().unwrap();
        pack(&self.gantry, media.path(), "64MiB");
        fs::remove_dir_all(self.gantry.store()).unwrap();
        let (host, naming) = (self.world.site().host(), self.naming);
        let site = format!(
            "{{url: {host}/{PREFIX}, naming: {naming}, plainHttp: true, pullSecret: {SECRET}}}"
        );
        self.gantry.write_file("site.yaml", &format!("version: 1\nregistry: {site}\n"));
        let load = ["load", &text(media.path()), "--site", "site.yaml", "--output", "json"];
        let loaded = self.gantry.run(load).assert_success().parse_json();

        let mut expected = scan::scan_images(&self.render(None));
        expected.extend(set(more));
        for row in loaded["roots"].as_array().unwrap() {
            let (name, digest) = (row["name"].as_str().unwrap(), row["digest"].as_str().unwrap());
            if row["kind"] == "image" {
                assert!(expected.remove(name), "nothing names {name}");
                assert_eq!(digest, self.digest_at_source(name), "{name}");
                // This registry refuses sparse indexes, so the index there is a rewritten one.
                let digest = row["rewritten"].as_str().unwrap_or(digest);
                self.landed.insert(self.at_site(name), digest.to_owned());
            }
        }
        assert!(expected.is_empty(), "not carried: {expected:?}");
        // The chart's images are pulled later, under the names of its last render.
        for name in more {
            self.pulls(&self.at_site(name));
        }
        self
    }

    fn render(&self, overlay: Option<&Path>) -> String {
        render(&self.chart, &self.values, overlay)
    }

    fn digest_at_source(&self, name: &str) -> String {
        match name.split_once('@') {
            Some((_, digest)) => digest.to_owned(),
            None => self.world.images().get(name).digest.to_string(),
        }
    }

    /// The overlay moves all images of the chart except the leftovers, and the post-renderer moves those
    /// that helm passes to it. All of them are reported, and crane and the nodes can pull them.
    fn moves_all_but(&self, left: &Left) {
        let (chart, overlay) = (text(&self.chart), self.gantry.folder().join("overlay.yaml"));
        let values = self.values.iter().flat_map(|file| ["-f".to_owned(), text(file)]);
        let run = ["relocate", &chart, "--site=site.yaml", "--release", RELEASE];
        let more = ["--mirrors=nodes", "--output=json"];
        let run = run.into_iter().chain(more).map(String::from).chain(values);
        let literals: BTreeSet<String> = left.rendered.union(&left.hooks).cloned().collect();
        let is_proven = literals.is_empty() && left.compiled_in.is_empty();

        let report =
            self.gantry.run(run).assert_exit_code(if is_proven { 0 } else { 3 }).parse_json();

        let before = scan::scan_images(&self.render(None));
        let at_site = |name: &String| self.at_site(name);
        let inside: BTreeSet<String> = before.difference(&literals).map(at_site).collect();
        let stream = self.render(Some(&overlay));
        assert_eq!(scan::scan_images(&stream), inside.union(&literals).cloned().collect());
        assert_eq!(told(&report["moved"], "target", None), inside);
        for (kind, names) in [
            ("rendered", &left.rendered),
            ("hook", &left.hooks),
            ("compiled-in", &left.compiled_in),
        ] {
            assert_eq!(told(&report["leftovers"], "image", Some(kind)), *names, "{kind}");
        }

        let bare = scan::scan_images_without_secret(&stream, self.world.site().host(), SECRET);
        let places = report["withoutSecret"].as_array().into_iter().flatten();
        let owned_up: BTreeSet<String> =
            places.map(|place| place["name"].as_str().unwrap().to_owned()).collect();
        assert!(bare.is_subset(&owned_up), "{bare:?} have no pull secret; told is {owned_up:?}");

        let last = scan::scan_images(&self.post_rendered(&stream));
        assert_eq!(last, before.iter().map(at_site).collect());
        let by_helm = scan::scan_images(&self.rendered_by_helm_3(&overlay));
        assert_eq!(by_helm.intersection(&before).cloned().collect::<BTreeSet<_>>(), left.hooks);
        for name in &last {
            self.pulls(name);
        }
        for name in literals.union(&left.compiled_in) {
            self.node_pulls(name);
        }
    }

    /// The chart rendered by helm 3 with the overlay and the post-renderer.
    fn rendered_by_helm_3(&self, overlay: &Path) -> String {
        let mut helm = helm(&self.chart, &self.values, Some(overlay));
        helm.args(["--post-renderer", story::BINARY, "--post-renderer-args", "post-render"]);
        helm.args(["--post-renderer-args", "--site=site.yaml"]);
        tools::run_command(helm.current_dir(self.gantry.folder()))
    }

    /// The output of the post-renderer for a stream of manifests.
    fn post_rendered(&self, stream: &str) -> String {
        let mut command = self.gantry.command(["post-render", "--site", "site.yaml"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let output = thread::scope(|scope| {
            scope.spawn(move || input.write_all(stream.as_bytes()).unwrap());
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The name of an image at the site: its host is replaced by the site, or becomes a part of the path.
    fn at_site(&self, name: &str) -> String {
        let rest = match self.naming {
            "host-path" => name,
            _ => name.split_once('/').unwrap().1,
        };
        format!("{}/{PREFIX}/{rest}", self.world.site().host())
    }

    /// Pulls an image from the site's registry with crane and compares its digest with the loaded one.
    fn pulls(&self, name: &str) {
        let landed = self.landed.get(name).unwrap_or_else(|| panic!("{name} has not landed"));
        let digest = tools::run_command(tools::tool_command("crane").args(["digest", name]));
        assert_eq!(digest.trim(), landed, "{name}");
        tools::run_command(tools::tool_command("crane").args(["pull", name, "/dev/null"]));
    }

    /// A node that has the files of `--mirrors` pulls an outside name from the site.
    fn node_pulls(&self, name: &str) {
        let landed = &self.landed[&self.at_site(name)];
        let nodes = self.gantry.folder().join("nodes");
        // CRI-O and skopeo read the same file.
        let file = nodes.join("cri-o/50-gantry.conf");
        let inspect = ["inspect", "--no-tags", "--format={{.Digest}}", &format!("docker://{name}")];
        let mut skopeo = tools::tool_command("skopeo");
        skopeo.arg("--registries-conf").arg(file).args(inspect);
        assert_eq!(tools::run_command(&mut skopeo).trim(), landed, "{name}");
        // containerd appends repository and tag to the mirror's path.
        let (host, rest) = name.split_once('/').unwrap();
        let hosts = nodes.join("containerd/certs.d").join(host).join("hosts.toml");
        let hosts = fs::read_to_string(hosts).unwrap();
        let mirror = hosts.split("server = \"").nth(1).unwrap().split('"').next().unwrap();
        let url = format!("{mirror}/{}", rest.replace(':', "/manifests/"));
        let accept = "Accept: application/vnd.oci.image.index.v1+json, \
                      application/vnd.oci.image.manifest.v1+json";
        let headers = tools::run_command(tools::tool_command("curl").args(["-sfIH", accept, &url]));
        assert!(headers.contains(landed), "{url}: {headers}");
    }
}

/// The values of a key of the report's rows, of one kind.
fn told(rows: &Value, column: &str, kind: Option<&str>) -> BTreeSet<String> {
    let rows = rows.as_array().unwrap().iter();
    let rows = rows.filter(|row| kind.is_none_or(|kind| row["kind"] == kind));
    rows.map(|row| row[column].as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The chart as rendered by helm.
fn render(chart: &Path, values: &[PathBuf], overlay: Option<&Path>) -> String {
    tools::run_command(&mut helm(chart, values, overlay))
}

fn helm(chart: &Path, values: &[PathBuf], overlay: Option<&Path>) -> Command {
    let mut helm = tools::tool_command("helm");
    helm.args(["template", RELEASE]).arg(chart).args(["--kube-version", KUBE_VERSION]);
    for file in values.iter().map(PathBuf::as_path).chain(overlay) {
        helm.arg("-f").arg(file);
    }
    helm
}

mod slow {
    use super::*;

    /// An address without a registry.
    const SITE: &str = "registry.internal:5000/ai/";

    #[test]
    fn no_chart_has_an_image_that_is_missed_or_said_to_be_moved_and_is_not() {
        let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/charts");
        let values = fs::read_dir(charts).unwrap().map(|entry| entry.unwrap().path());
        let mut wrong = Vec::new();
        for file in values {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let chart = tools::chart_archive(&name);
            let home = tempfile::tempdir().unwrap();
            let gantry = story::alone(home.path());
            let of = |verb: &[&str]| {
                let (chart, file) = (text(&chart), text(&file));
                let last = [chart.as_str(), "-f", &file, "--release", RELEASE];
                gantry.run([verb, &last].concat())
            };

            let list = of(&["images", "--list", "--at-least", "likely"]).assert_success().stdout;
            let report = of(&["relocate", "--to", SITE, "--output", "json"]);

            let found: BTreeSet<_> = list.lines().map(String::from).collect();
            let values = [file.clone()];
            let seen = scan::scan_images(&render(&chart, &values, None));
            let overlay = gantry.folder().join("overlay.yaml");
            let after = scan::scan_images(&render(&chart, &values, Some(&overlay)));
            let outside: BTreeSet<_> =
                after.into_iter().filter(|image| !image.starts_with(SITE)).collect();
            let left = told(&report.parse_json()["leftovers"], "image", None);
            let missed: Vec<_> = seen.difference(&found).collect();
            let hidden: Vec<_> = outside.difference(&left).collect();
            if seen.is_empty() || !missed.is_empty() || !hidden.is_empty() {
                wrong.push(format!(
                    "{name}: of {} missed {missed:?}, hidden {hidden:?}",
                    seen.len()
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
