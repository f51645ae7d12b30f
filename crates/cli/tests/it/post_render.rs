//! Images that no chart value moves: moved by the post-renderer under helm 3 and helm 4, or by mirror
//! configuration on the nodes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::story::{BINARY, alone, text};
use testkit::{Gantry, TestImages, TestRegistry, tools};

const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai}\n";

/// A chart with literal images in its templates: in a pod with the same name as its image, in an
/// argument, a Secret, and a hook.
const CHART: [(&str, &str); 4] = [
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.0\n"),
    (
        "templates/redis.yaml",
        "\
# The cache.
apiVersion: v1
kind: Pod
metadata: {name: redis, labels: {app: redis}}
spec:
  containers:
    - name: redis # called like its image
      image: redis
      args: ['--helper-image=ghcr.io/shop/helper:1', --mode=0644]
",
    ),
    (
        "templates/secret.yaml",
        "\
apiVersion: v1
kind: Secret
metadata: {name: worker}
data:
  values.yaml: {{ b64enc \"worker: {image: 'quay.io/shop/worker:2'}\" }}
",
    ),
    (
        "templates/hook.yaml",
        "\
apiVersion: v1
kind: Pod
metadata: {name: migrate, annotations: {helm.sh/hook: pre-install}}
spec:
  restartPolicy: Never
  containers: [{name: migrate, image: \"quay.io/shop/migrate:3\"}]
",
    ),
];

/// A user with the chart and a site.
fn user(home: &Path) -> Gantry {
    let gantry = alone(home);
    for (name, text) in CHART {
        gantry.write_file(&format!("shop/{name}"), text);
    }
    gantry.write_file("site.yaml", SITE);
    gantry
}

/// Runs gantry with this on its standard input.
fn piped(gantry: &Gantry, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = gantry.command(arguments);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may exit before it has read all input, which closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// helm with the test user's home and plugins.
fn helm(gantry: &Gantry, name: &str, arguments: &[&str]) -> Command {
    let mut helm = tools::tool_command(name);
    let home = gantry.folder().parent().unwrap();
    helm.args(arguments).current_dir(gantry.folder()).env("HOME", home);
    helm.env("HELM_PLUGINS", home.join("plugins"));
    helm
}

const HELM_3: [&str; 9] = [
    "template",
    "shop",
    "./shop",
    "--post-renderer",
    BINARY,
    "--post-renderer-args",
    "post-render",
    "--post-renderer-args",
    "--site=site.yaml",
];

const HELM_4: [&str; 7] = [
    "template",
    "shop",
    "./shop",
    "--post-renderer",
    "gantry",
    "--post-renderer-args",
    "--site=site.yaml",
];

/// Writes the plugin into the folder where helm 4 looks for plugins.
fn with_plugin(gantry: &Gantry) -> PathBuf {
    let folder = gantry.folder().parent().unwrap().join("plugins/gantry");
    gantry.run(["post-render", "--write-plugin", &text(&folder)]).assert_success();
    folder
}

#[test]
fn helm_3_hands_everything_but_hooks_to_the_post_renderer() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    let plain = tools::run_command(&mut helm(&gantry, "helm", &["template", "shop", "./shop"]));

    let moved = tools::run_command(&mut helm(&gantry, "helm", &HELM_3));

    let secret = |worker: &str| {
        let mut base64 = Command::new("base64");
        let text = format!("worker: {{image: '{worker}/shop/worker:2'}}");
        let file = gantry.write_file("plain", &text);
        tools::run_command(base64.arg("-w0").arg(file))
    };
    let expected = plain
        .replace("image: redis\n", "image: registry.internal:5000/ai/library/redis\n")
        .replace("ghcr.io/", "registry.internal:5000/ai/")
        .replace(&secret("quay.io"), &secret("registry.internal:5000/ai"));
    assert_eq!(moved, expected, "comments, names and modes stay as they are");
    assert!(moved.contains("\"quay.io/shop/migrate:3\""), "helm 3 keeps its hooks to itself");
}

#[test]
fn helm_4_runs_it_as_a_plugin_and_hands_hooks_over_too() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    with_plugin(&gantry);

    let moved = tools::run_command(&mut helm(&gantry, "helm4", &HELM_4));

    for image in ["library/redis", "shop/helper:1", "shop/migrate:3"] {
        assert!(moved.contains(&format!("registry.internal:5000/ai/{image}")), "{moved}");
    }
    for outside in ["image: redis", "ghcr.io", "quay.io"] {
        assert!(!moved.contains(outside), "{outside}: {moved}");
    }
    assert!(moved.contains("# The cache.") && moved.contains("name: redis #"), "{moved}");
    // Written again, as after an update of gantry.
    with_plugin(&gantry);
    let list = tools::run_command(&mut helm(&gantry, "helm4", &["plugin", "list"]));
    assert!(list.contains("postrenderer/v1"), "{list}");
}

#[test]
fn what_cannot_be_proven_stops_both_helms_with_the_place() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    let plugin = with_plugin(&gantry);
    gantry.write_file("gantry.lock", "version: 1\nname: other\nplatforms: [linux/amd64]\n");

    let third = helm(&gantry, "helm", &HELM_3).output().unwrap();
    let fourth = helm(&gantry, "helm4", &HELM_4).output().unwrap();

    let told = String::from_utf8_lossy(&third.stderr);
    assert!(!third.status.success() && third.stdout.is_empty(), "{told}");
    assert!(told.contains("docker.io/library/redis:latest is not in the lock"), "{told}");
    assert!(told.contains("shop/templates/redis.yaml: Pod redis"), "{told}");
    // Helm 4 does not show the error, but the file beside the plugin has it.
    assert!(!fourth.status.success() && fourth.stdout.is_empty());
    let told = fs::read_to_string(plugin.join("error.txt")).unwrap();
    assert!(told.contains("quay.io/shop/migrate:3 is not in the lock"), "{told}");
    assert!(told.contains("shop/templates/hook.yaml: Pod migrate"), "{told}");
    fs::remove_file(gantry.folder().join("gantry.lock")).unwrap();
    tools::run_command(&mut helm(&gantry, "helm4", &HELM_4));
    assert_eq!(fs::read_to_string(plugin.join("error.txt")).unwrap(), "", "it is mended");
}

#[test]
fn a_stream_goes_through_byte_for_byte_and_once_is_enough() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    let run = ["post-render", "--site", "site.yaml"];
    let site = b"kind: Pod\r\nspec: {containers: [{image: 'registry.internal:5000/ai/a/b:1'}]}";
    let outside = b"# x\n---\nkind: Pod\nspec: {containers: [{image: a/b:1}]}\n# no end of line";

    for same in [&b""[..], b"\n", b"---\n# nothing\n", b"a: 1", site] {
        let output = piped(&gantry, &run, same);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, same);
    }
    let first =
        piped(&gantry, &["post-render", "--to", "site.example", "--naming", "name"], outside);
    let again = piped(&gantry, &["post-render", "--to", "site.example"], &first.stdout);

    let expected = String::from_utf8_lossy(outside).replace("a/b:1", "site.example/b:1");
    assert_eq!(String::from_utf8_lossy(&first.stdout), expected);
    assert_eq!(again.stdout, first.stdout);
}

#[test]
fn bad_input_is_told_with_exit_2_and_a_refused_proof_with_exit_3_and_nothing_is_printed() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    let pod = "kind: Pod\nmetadata: {name: x}\nspec: {containers: [{image: 'app:%!s(<nil>)'}]}\n";
    let same = "kind: Pod\nspec: {containers: [{image: 'q.io/a/b:1'}, {image: 'ghcr.io/a/b:1'}]}\n";
    let run: &[&str] = &["post-render", "--site", "site.yaml"];

    for (arguments, input, code, part) in [
        (run, "# Source: t.yaml\na: b: c\n".as_bytes(), 2, "t.yaml does not render to valid YAML"),
        (run, b"\xff\xfe", 2, "byte 0 is not UTF-8"),
        (run, same.as_bytes(), 2, "use the naming host-path"),
        (
            run,
            pod.as_bytes(),
            3,
            "app:%!s(<nil>) in Pod x: spec.containers[0].image is not an image",
        ),
        (&["post-render", "--site", "none.yaml"], b"", 2, "cannot read none.yaml"),
        (&["post-render", "--to", "x.io", "--lock", "none.lock"], b"", 2, "gantry lock"),
        (&["post-render"], b"", 2, "--site"),
    ] {
        let output = piped(&gantry, arguments, input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(part), "{part}: {told}");
        assert!(output.stdout.is_empty(), "{told}");
    }
}

#[test]
fn a_leftover_in_a_hook_names_the_ways_out_that_reach_it() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());

    let run = ["relocate", "shop", "--site", "site.yaml", "--report", "r.md"];
    let error = gantry.run(run).assert_exit_code(3).stderr;

    assert!(error.contains("with helm 4 only"), "{error}");
    let report = gantry.read_file("r.md");
    let (_, hooks) = report.split_once("## Leftovers in hooks").expect(&report);
    assert!(hooks.contains("Helm 3 does not pass hooks to a post-renderer"), "{report}");
    assert!(hooks.contains("quay.io/shop/migrate:3"), "{report}");
}

/// A registry as the site's, with nginx under the name that `relocate` gives it.
fn site() -> (TestRegistry, String) {
    let registry = TestRegistry::start();
    TestImages::fast().place_in_storage(registry.storage());
    let folder = registry.storage().join("docker/registry/v2/repositories");
    fs::create_dir(folder.join("ai")).unwrap();
    fs::rename(folder.join("library"), folder.join("ai/library")).unwrap();
    let url = format!("{}/ai", registry.host());
    (registry, url)
}

#[test]
fn the_nodes_of_cri_o_pull_from_the_site_by_the_file_that_relocate_writes() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let (_registry, url) = site();
    gantry.write_file(
        "site.yaml",
        &format!("version: 1\nregistry: {{url: {url}, plainHttp: true}}\n"),
    );
    gantry.write_file("app/Chart.yaml", CHART[0].1);
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: [{image: nginx:1.22}]}\n";
    gantry.write_file("app/templates/pod.yaml", pod);
    let run = ["relocate", "app", "--site", "site.yaml", "--mirrors", "nodes"];
    gantry.run(run.iter().chain(&["--allow-leftovers"])).assert_success();
    let conf = gantry.folder().join("nodes/cri-o/50-gantry.conf");

    let digest = tools::run_command(
        tools::tool_command("skopeo")
            .args([
                "--registries-conf",
                &text(&conf),
                "inspect",
                "--no-tags",
                "--format",
                "{{.Digest}}",
            ])
            .arg("docker://docker.io/library/nginx:1.22"),
    );
    let storage = home.path().join("containers");
    let podman = |arguments: &[&str]| {
        tools::run_command(
            tools::tool_command("podman")
                .args(["--root", &text(&storage), "--runroot", &text(&storage.join("run"))])
                .args(["--storage-driver", "vfs"])
                .args(arguments)
                .env("CONTAINERS_REGISTRIES_CONF", &conf)
                .env("HOME", home.path()),
        )
    };
    podman(&["pull", "--quiet", "nginx:1.22"]);

    let image = TestImages::fast().get("docker.io/library/nginx:1.22").digest.to_string();
    assert_eq!(digest.trim(), image);
    let names = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names.trim(), "docker.io/library/nginx:1.22", "under the name that the pod has");
}
