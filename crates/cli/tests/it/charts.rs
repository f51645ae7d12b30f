//! Charts from every kind of source: each is locked with its images and carried across, and helm pulls
//! it on the other side.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::story::{self, pack, text, user};
use testkit::{TestEnvironment, tools};

/// A chart with an image that only some values turn on, one in a hook and one in a test.
const CHART: [(&str, &str); 5] = [
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.0\n"),
    ("values.yaml", "redis:\n  image: docker.io/library/redis:7.0\ndns: false\n"),
    (
        "templates/deployment.yaml",
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
        - {name: cache, image: \"{{ .Values.redis.image }}\"}
        {{- if .Values.dns }}
        - {name: dns, image: \"quay.io/gantry-examples/dns:2.90\"}
        {{- end }}
",
    ),
    (
        "templates/hook.yaml",
        "\
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: pre-install}}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: \"ghcr.io/gantry-examples/tools:1.0\"}]
",
    ),
    (
        "templates/test.yaml",
        "\
apiVersion: v1
kind: Pod
metadata: {name: try, annotations: {helm.sh/hook: test}}
spec: {containers: [{name: try, image: \"docker.io/library/busybox:1.35\"}]}
",
    ),
];

#[test]
fn a_chart_of_a_registry_comes_with_all_its_images_and_helm_pulls_it_from_the_depot() {
    let world = TestEnvironment::fast();
    let archive = package(world.home());
    helm(&world, &["push", &text(&archive), &of(&world, "charts"), "--plain-http"]);
    let gantry = user(
        &world,
        "version: 1\nname: shop\ncharts: [{chart: oci://ghcr.io/charts/shop, version: ~1.1 || ^1.2}]\n",
    );

    let looked =
        gantry.run(["images", "oci://ghcr.io/charts/shop", "--list"]).assert_success().stdout;
    assert!(looked.contains("ghcr.io/gantry-examples/tools:1.0\n"), "{looked}");
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    let media = tempfile::tempdir().unwrap();
    pack(&gantry, media.path(), "16MiB");
    let mut depot = gantry.start(["serve", &text(media.path()), "--listen", "127.0.0.1:0"]);
    let host = depot.wait_for_word_after(" on ").trim_start_matches("http://").to_owned();

    let lock = gantry.read_file("gantry.lock");
    for image in ["library/redis:7.0", "gantry-examples/tools:1.0", "library/busybox:1.35"] {
        assert!(lock.contains(image), "{image}");
        tools::run_command(
            tools::tool_command("crane").args(["manifest", &format!("{host}/{image}")]),
        );
    }
    assert!(!lock.contains("dns:2.90"), "what no values ask for is left out");
    let chart = format!("oci://{host}/ghcr.io/charts/shop");
    helm(
        &world,
        &["pull", &chart, "--version", "1.2.0", "--plain-http", "-d", &text(media.path())],
    );
    assert!(fs::read(media.path().join("shop-1.2.0.tgz")).unwrap() == fs::read(archive).unwrap());
}

#[test]
fn a_chart_of_a_web_repository_is_pinned_until_it_is_upgraded() {
    let world = TestEnvironment::fast();
    let site = world.home().join("site");
    fs::create_dir(&site).unwrap();
    fs::rename(package(world.home()), site.join("shop-1.2.0.tgz")).unwrap();
    helm(&world, &["repo", "index", &text(&site)]);
    let web = story::Web::serve(&site);
    let input = |version: &str| {
        format!(
            "version: 1\nname: shop\ncharts: [{{chart: \"{}\", name: shop{version}}}]\n",
            web.url()
        )
    };
    let gantry = user(&world, &input(""));

    gantry.run(["lock"]).assert_success();
    let pinned = gantry.read_file("gantry.lock");
    let newer = folder(&world.home().join("newer"));
    let text_of = fs::read_to_string(newer.join("Chart.yaml")).unwrap();
    fs::write(newer.join("Chart.yaml"), text_of.replace("1.2.0", "1.3.0")).unwrap();
    helm(&world, &["package", &text(&newer), "-d", &text(&site)]);
    helm(&world, &["repo", "index", &text(&site)]);

    gantry.run(["lock"]).assert_success();
    assert_eq!(gantry.read_file("gantry.lock"), pinned, "a pin stays");
    gantry.run(["lock", "--upgrade", "shop"]).assert_success();
    assert!(gantry.read_file("gantry.lock").contains("shop:1.3.0"));
    gantry.run(["fetch"]).assert_success();
    // An error about a missing version or chart lists those that exist.
    gantry.write_file("gantry.yaml", &input(", version: ^2"));
    let absent = gantry.run(["lock"]).assert_exit_code(2);
    assert!(absent.stderr.contains("1.3.0"), "{}", absent.stderr);
    gantry.write_file("gantry.yaml", &input("ping"));
    let absent = gantry.run(["lock"]).assert_exit_code(2);
    assert!(absent.stderr.contains("shop"), "{}", absent.stderr);
}

#[test]
fn values_and_variants_add_what_they_ask_for_and_a_failing_render_is_shown() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    folder(&gantry.folder().join("shop"));
    let input = |more: &str| {
        format!("version: 1\nname: shop\ncharts: [{{chart: ./shop, release: mine, {more}}}]\n")
    };
    gantry.write_file("dns.yaml", "dns: true\n");
    gantry
        .write_file("gantry.yaml", &input("variants: [[dns.yaml]], set: [redis.image=nginx:1.22]"));

    gantry.run(["lock"]).assert_success();

    let lock = gantry.read_file("gantry.lock");
    for image in ["quay.io/gantry-examples/dns:2.90", "docker.io/library/nginx:1.22"] {
        assert!(lock.contains(image), "{image}");
    }
    assert!(!lock.contains("library/redis"), "--set took its place");
    for (more, part) in [
        ("values: [none.yaml]", "none.yaml"),
        ("set: [\"redis=\"]", "deployment.yaml"),
        ("version: 1.2.0", "remove `version`"),
    ] {
        gantry.write_file("gantry.yaml", &input(more));
        let failed = gantry.run(["lock"]).assert_exit_code(2);
        assert!(failed.stderr.contains(part), "{more}: {}", failed.stderr);
        assert_eq!(gantry.read_file("gantry.lock"), lock, "the lock stays");
    }
}

/// The chart's folder below `parent`.
fn folder(path: &Path) -> PathBuf {
    for (name, text) in CHART {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    path.to_owned()
}

/// The chart's archive, made by helm.
fn package(home: &Path) -> PathBuf {
    let chart = folder(&home.join("shop"));
    let mut helm = tools::tool_command("helm");
    tools::run_command(helm.args(["package", &text(&chart), "-d", &text(home)]).env("HOME", home));
    home.join("shop-1.2.0.tgz")
}

fn of(world: &TestEnvironment, path: &str) -> String {
    format!("oci://{}/{path}", world.upstream().host())
}

fn helm(world: &TestEnvironment, arguments: &[&str]) {
    tools::run_command(tools::tool_command("helm").args(arguments).env("HOME", world.home()));
}
