//! A chart that pins an index by its digest, of which one platform is carried into a docker-registry,
//! which takes no such index and gets another one: what is proven names what is there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;
use std::process::Stdio;

use crate::story::{INPUT, fetched, text};
use testkit::{Gantry, TestEnvironment, tools};

const NGINX: &str = "docker.io/library/nginx:1.22";

/// A chart with one pod, whose image has its digest in a value of its own.
fn write_chart(gantry: &Gantry, digest: &str) {
    gantry.write_file("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    let values = format!(
        "image: {{repository: docker.io/library/nginx, tag: '1.22', digest: '{digest}'}}\n"
    );
    gantry.write_file("c/values.yaml", &values);
    gantry.write_file(
        "c/templates/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: web\n    image: \
         \"{{ .Values.image.repository }}:{{ .Values.image.tag }}@{{ .Values.image.digest }}\"\n",
    );
}

fn render(gantry: &Gantry, overlay: &[&str]) -> String {
    let mut helm = tools::tool_command("helm");
    helm.args(["template", "c", &text(&gantry.folder().join("c"))]).args(overlay);
    tools::run_command(helm.current_dir(gantry.folder()))
}

/// The digest that the registry has for the one image that manifests name.
fn assert_pulled(manifests: &str) {
    let (_, image) = manifests.split_once("image: ").unwrap();
    let image = image.lines().next().unwrap().trim_matches('"');
    // crane, as container runtimes, goes by the digest alone.
    tools::run_command(tools::tool_command("crane").args(["manifest", image]));
}

#[test]
fn a_pin_names_the_index_that_the_site_holds_or_it_is_no_proof() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    let digest = world.images().get(NGINX).digest.to_string();
    write_chart(&gantry, &digest);
    let site = format!("version: 1\nregistry: {{url: '{}/ai'}}\n", world.site().host());
    gantry.write_file("site.yaml", &site);
    let relocate = ["relocate", "c", "--site", "site.yaml"];

    // Nothing is loaded yet: nobody knows what the site will take.
    let unknown = gantry.run(relocate).assert_exit_code(3);
    assert!(unknown.stderr.contains("not confirmed"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("--receipt"), "{}", unknown.stderr);
    assert!(!unknown.stdout.contains("proven"), "{}", unknown.stdout);
    let silent = gantry.run(["relocate", "c", "--to", "127.0.0.1:1/ai"]).assert_exit_code(3);
    assert!(silent.stderr.contains("could not be asked"), "{}", silent.stderr);

    let store = text(gantry.store());
    gantry.run(["load", &store, "--site", "site.yaml", "--receipt", "r.json"]).assert_success();
    let proven = gantry.run(relocate).assert_success();

    assert!(proven.stdout.contains("proven; overlay.yaml written"), "{}", proven.stdout);
    let rendered = render(&gantry, &["-f", "overlay.yaml"]);
    assert!(!rendered.contains(&digest), "{rendered}");
    assert_pulled(&rendered);
    // Where the registry cannot be reached, the receipt says the same.
    let overlay = gantry.read_file("overlay.yaml");
    let elsewhere = ["relocate", "c", "--to", "127.0.0.1:1/ai", "--receipt", "r.json"];
    gantry.run(elsewhere).assert_success();
    let again = gantry.read_file("overlay.yaml");
    assert_eq!(again.replace("127.0.0.1:1/", &format!("{}/", world.site().host())), overlay);
}

#[test]
fn a_pin_on_an_index_that_is_carried_whole_is_proven_without_the_registry() {
    let world = TestEnvironment::fast();
    let all = "version: 1\nname: whole\nimages:\n- {image: 'docker.io/library/nginx:1.22', platforms: [all]}\n";
    let gantry = fetched(&world, all);
    let digest = world.images().get(NGINX).digest.to_string();
    write_chart(&gantry, &digest);

    let to = format!("{}/ai", world.site().host());
    gantry.run(["relocate", "c", "--to", &to]).assert_success();

    let store = text(gantry.store());
    gantry.run(["load", &store, "--to", &to, "--sparse", "keep"]).assert_success();
    let rendered = render(&gantry, &["-f", "overlay.yaml"]);
    assert!(rendered.contains(&digest), "{rendered}");
    assert_pulled(&rendered);
}

#[test]
fn the_post_renderer_writes_the_digest_that_the_site_holds() {
    let world = TestEnvironment::fast();
    let gantry = fetched(&world, INPUT);
    write_chart(&gantry, &world.images().get(NGINX).digest.to_string());
    let site = format!("version: 1\nregistry: {{url: '{}/ai'}}\n", world.site().host());
    gantry.write_file("site.yaml", &site);
    let post_render = || {
        let mut command = gantry.command(["post-render", "--site", "site.yaml"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(render(&gantry, &[]).as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };

    let refused = post_render();
    assert_eq!(refused.status.code(), Some(3));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("may not have these digests"), "{told}");
    let store = text(gantry.store());
    gantry.run(["load", &store, "--site", "site.yaml"]).assert_success();
    let moved = post_render();

    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    assert_pulled(&String::from_utf8(moved.stdout).unwrap());
}

/// A Deployment that names an image of the site by its tag, and what the post-renderer makes of it.
fn pin(gantry: &Gantry, host: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let manifest = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  template:\n    spec:\n      \
         containers:\n      - name: web # here\n        image: {host}/ai/library/nginx:1.22\n"
    );
    let mut command = gantry.command(["post-render", "--site", "site.yaml"]);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_tag_gets_the_digest_that_every_registry_keeps() {
    let world = TestEnvironment::fast();
    let both = "version: 1\nname: both\nplatforms: [linux/amd64, linux/arm64]\nimages: [docker.io/library/nginx:1.22]\n";
    let gantry = fetched(&world, INPUT);
    let host = world.site().host();
    gantry.write_file("site.yaml", &format!("version: 1\nregistry: {{url: '{host}/ai'}}\n"));
    let store = text(gantry.store());
    gantry.run(["load", &store, "--site", "site.yaml"]).assert_success();

    // One platform of an index, which docker-registry takes only when it is rewritten.
    let (code, pinned) = pin(&gantry, host, &["--pin", "auto", "--pin-only"]);
    assert_eq!(code, Some(0), "{pinned}");
    assert!(pinned.contains("name: web # here"), "{pinned}");
    assert!(pinned.contains("nginx:1.22@sha256:"), "{pinned}");
    assert_pulled(&pinned);
    let (_, plain) = pin(&gantry, host, &[]);
    assert!(!plain.contains('@'), "{plain}");
    let (_, noted) = pin(&gantry, host, &["--pin", "annotation"]);
    assert!(
        noted.contains("gantry.dev/locked-images") && !noted.contains("nginx:1.22@\n"),
        "{noted}"
    );

    // The site says so for everything that renders for it; both platforms are the whole index here.
    gantry.write_file("gantry.yaml", both);
    gantry.run(["lock"]).assert_success();
    gantry.run(["fetch"]).assert_success();
    gantry.run(["load", &store, "--site", "site.yaml"]).assert_success();
    gantry.write_file(
        "site.yaml",
        &format!("version: 1\npin: digest\nregistry: {{url: '{host}/ai'}}\n"),
    );
    let (code, pinned) = pin(&gantry, host, &[]);
    assert_eq!(code, Some(0), "{pinned}");
    assert_pulled(&pinned);
    std::fs::remove_file(gantry.folder().join("gantry.lock")).unwrap();
    let (code, refused) = pin(&gantry, host, &[]);
    assert_eq!(code, Some(2), "{refused}");
    assert!(refused.contains("--lock gantry.lock"), "{refused}");
}
