//! Images that are only possible: left out and listed, or carried by `include:`, and then told apart
//! wherever images are listed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use crate::story::{self, files, text};
use testkit::{Gantry, TestEnvironment};

const REDIS: &str = "docker.io/library/redis:7.0";
const NGINX: &str = "docker.io/library/nginx:1.22";
const ABSENT: &str = "docker.io/library/absent:9";
const TOOLS: &str = "ghcr.io/gantry-examples/tools:1.0";

/// A chart that runs one image, and would run two more if something were turned on; and a rule by which
/// an operator may pull a fourth.
fn chart(gantry: &Gantry) {
    gantry.write_file("shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n");
    gantry.write_file(
        "shop/values.yaml",
        &format!(
            "image: {TOOLS}\ncache: {{enabled: false, image: {REDIS}}}\nold: {{enabled: false, image: {ABSENT}}}\n"
        ),
    );
    let pod = |name: &str| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: {name}}}\nspec:\n  containers: \
             [{{name: {name}, image: \"{{{{ .Values.{name}.image }}}}\"}}]\n"
        )
    };
    let optional =
        |name: &str| format!("{{{{- if .Values.{name}.enabled }}}}\n{}{{{{- end }}}}\n", pod(name));
    gantry.write_file("shop/templates/cache.yaml", &optional("cache"));
    gantry.write_file("shop/templates/old.yaml", &optional("old"));
    gantry.write_file(
        "shop/templates/web.yaml",
        "kind: Pod\napiVersion: v1\nmetadata: {name: web}\nspec:\n  containers: [{name: web, image: \"{{ .Values.image }}\"}]\n\
         ---\nkind: Site\napiVersion: web.example/v1\nmetadata: {name: main}\n",
    );
}

pub(crate) fn user(world: &TestEnvironment) -> Gantry {
    let gantry = world.gantry(story::BINARY);
    chart(&gantry);
    gantry
}

/// Writes an input with these lines at the top and for the chart.
pub(crate) fn write_input(gantry: &Gantry, top: &str, chart: &str) {
    gantry.write_file(
        "gantry.yaml",
        &format!(
            "version: 1\nname: site\n{top}charts:\n- chart: ./shop\n{chart}rules:\n  operators:\n  - name: site-operator\n    \
             when: {{group: web.example, kind: Site}}\n    images: [\"{NGINX}\"]\n    sure: possible\n    \
             why: The operator starts a proxy where a Site is public.\n"
        ),
    );
}

/// The images of the lock.
fn locked(gantry: &Gantry) -> Vec<String> {
    let lock = gantry.read_file("gantry.lock");
    let lines = lock.lines().filter_map(|line| line.strip_prefix("- reference: "));
    let names = lines.map(|name| name.trim_matches('"').to_owned());
    names.filter(|name| !name.starts_with("charts.gantry/")).collect()
}

#[test]
fn what_is_only_possible_is_listed_with_the_reason_and_not_carried() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);
    write_input(&gantry, "", "");

    let table = gantry.run(["lock"]).assert_success().stdout;
    let json = gantry.run(["lock", "--output", "json"]).assert_success().parse_json();

    assert_eq!(locked(&gantry), [TOOLS]);
    for part in ["3 only possible", REDIS, "cache.enabled is off", NGINX, "include: possible"] {
        assert!(table.contains(part), "{part}:\n{table}");
    }
    let release = &json["leftOut"][0];
    assert_eq!(release["release"], "shop");
    let images = release["images"].as_array().unwrap();
    let names: Vec<_> = images.iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert_eq!(names, [ABSENT, NGINX, REDIS]);
    assert!(images.iter().all(|image| image["cause"] == "possible"), "{json:#}");
    assert_eq!(images[1]["reason"], "The operator starts a proxy where a Site is public.");
    // What the input lists by name is not left out.
    gantry.write_file(
        "gantry.yaml",
        &(gantry.read_file("gantry.yaml") + &format!("images: [\"{REDIS}\"]\n")),
    );
    let json = gantry.run(["lock", "--output", "json"]).assert_success().parse_json();
    assert_eq!(json["leftOut"][0]["images"].as_array().unwrap().len(), 2, "{json:#}");
}

#[test]
fn what_is_included_is_carried_and_told_apart_everywhere() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);
    write_input(&gantry, "", "");
    gantry.run(["lock"]).assert_success();
    fs::copy(gantry.folder().join("gantry.lock"), gantry.folder().join("old.lock")).unwrap();
    write_input(&gantry, "include: possible\n", "");

    let stale = gantry.run(["plan"]).assert_exit_code(2);
    assert!(stale.stderr.contains("added include:"), "{}", stale.stderr);
    let done = gantry.run(["lock", "--output", "json"]).assert_success();

    assert_eq!(locked(&gantry), [NGINX, REDIS, TOOLS]);
    // A guess that no registry has is left out, with a warning.
    assert!(
        done.stderr.contains(ABSENT) && done.stderr.contains("only possible"),
        "{}",
        done.stderr
    );
    let left_out = &done.parse_json()["leftOut"][0]["images"][0];
    assert_eq!((&left_out["image"], &left_out["cause"]), (&ABSENT.into(), &"absent".into()));
    let lock = gantry.read_file("gantry.lock");
    assert!(lock.contains("possible: not rendered while cache.enabled is off"), "{lock}");
    gantry.run(["lock", "--check"]).assert_success();

    let media = tempfile::tempdir().unwrap();
    let folder = text(media.path());
    gantry.run(["fetch"]).assert_success();
    gantry.run(["pack", "-o", &folder]).assert_success();
    for arguments in [&["plan"][..], &["inspect", &folder], &["diff", "old.lock", "gantry.lock"]] {
        let arguments = arguments.iter().map(|argument| match *argument {
            name @ ("old.lock" | "gantry.lock") => text(&gantry.folder().join(name)),
            other => other.to_owned(),
        });
        let arguments: Vec<String> = arguments.collect();
        let table = gantry.run(&arguments).assert_success().stdout;
        // A diff has names and versions in columns of their own.
        let line = |image: &str| {
            let (name, tag) = image.rsplit_once(':').unwrap();
            let is_of = |line: &&str| line.contains(name) && line.contains(tag);
            table.lines().find(is_of).unwrap_or_default()
        };
        assert!(line(REDIS).ends_with("shop (possible)"), "{arguments:?}:\n{table}");
        assert!(!line(TOOLS).contains("possible"), "{arguments:?}:\n{table}");
        let json = gantry.run(arguments.iter().map(String::as_str).chain(["--output", "json"]));
        let json = json.assert_success().stdout;
        assert!(json.contains("\"namedBy\"") && json.contains("cache.enabled is off"), "{json}");
    }
}

#[test]
fn a_list_chooses_by_name_and_by_glob_and_a_name_must_exist() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);

    write_input(&gantry, "include: possible\n", "  include: [\"library/red*\"]\n");
    gantry.run(["lock"]).assert_success();
    assert_eq!(locked(&gantry), [REDIS, TOOLS]);
    write_input(&gantry, "include: [nginx]\n", "");
    gantry.run(["lock"]).assert_success();
    assert_eq!(locked(&gantry), [NGINX, TOOLS]);
    // The chart takes itself out.
    write_input(&gantry, "include: possible\n", "  include: []\n");
    gantry.run(["lock"]).assert_success();
    assert_eq!(locked(&gantry), [TOOLS]);

    write_input(&gantry, "", &format!("  include: [\"{ABSENT}\"]\n"));
    let refused = gantry.run(["lock"]).assert_exit_code(2).stderr;
    for part in [ABSENT, "release shop", "remove it from `include:`"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    for top in [true, false] {
        let (top, own) = match top {
            true => ("include: [\"nothing*\"]\n", ""),
            false => ("", "  include: [\"nothing*\"]\n"),
        };
        write_input(&gantry, top, own);
        let refused = gantry.run(["lock"]).assert_exit_code(2).stderr;
        assert!(refused.contains("\"nothing*\"") && refused.contains(REDIS), "{refused}");
    }
}

#[test]
fn relocate_never_says_proven_alone_of_what_an_operator_may_pull() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);
    for (include, remark) in [("", "(not in the lock)"), ("include: possible\n", "(in the lock)")] {
        write_input(&gantry, include, "");
        gantry.run(["lock"]).assert_success();
        let chart = text(&gantry.folder().join("shop"));
        let relocate = ["relocate", &chart, "--to", "registry.internal:5000/ai", "--dry-run"];
        let done = gantry.run(relocate).assert_success();
        let last = done.stdout.lines().last().unwrap_or_default().to_owned();
        assert_eq!(last, "proven, but 1 possible image was not looked at");
        let possible = format!("possible: {NGINX} {remark}: The operator starts");
        assert!(done.stdout.contains(&possible), "{}", done.stdout);
    }
}

#[test]
fn an_umbrella_of_folders_is_locked_and_relocated_with_its_parts_and_stays_as_it_is() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    let pod = |image: &str| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: '{{{{ .Chart.Name }}}}'}}\nspec:\n  containers: [{{name: c, image: '{image}'}}]\n"
        )
    };
    gantry.write_file("sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 0.1.0\n");
    gantry.write_file("sub/values.yaml", &format!("image: {TOOLS}\n"));
    gantry.write_file("sub/templates/p.yaml", &pod("{{ .Values.image }}"));
    gantry.write_file(
        "top/Chart.yaml",
        "apiVersion: v2\nname: top\nversion: 0.1.0\ndependencies:\n\
         - {name: sub, version: '>=0.1.0', repository: 'file://../sub'}\n\
         - {name: sub, alias: other, version: 0.1.0, repository: 'file://../sub', condition: other.enabled}\n",
    );
    gantry.write_file("top/values.yaml", &format!("image: {NGINX}\nother: {{enabled: false}}\n"));
    gantry.write_file("top/templates/p.yaml", &pod("{{ .Values.image }}"));
    gantry.write_file("gantry.yaml", "version: 1\nname: t\ncharts: [{chart: ./top}]\n");
    let top = gantry.folder().join("top");
    let before = files(&top);

    gantry.run(["lock"]).assert_success();
    assert_eq!(locked(&gantry), [NGINX, TOOLS]);
    let listed = gantry.run(["images", &text(&top), "--list"]).assert_success().stdout;
    assert!(listed.contains(TOOLS), "{listed}");
    let overlay = gantry.folder().join("overlay.yaml");
    let done = gantry
        .run(["relocate", &text(&top), "--to", "site.internal:5000", "-o", &text(&overlay)])
        .assert_success();
    assert!(done.stdout.contains("2 moved, 0 left over"), "{}", done.stdout);
    assert!(read(&overlay).contains("sub:"), "{}", read(&overlay));
    assert_eq!(files(&top), before);
    // A change of a part is a change of the chart.
    gantry.run(["plan"]).assert_success();
    gantry.write_file("sub/values.yaml", &format!("image: {REDIS}\n"));
    let stale = gantry.run(["plan"]).assert_exit_code(2).stderr;
    assert!(stale.contains("changed files of chart ./top"), "{stale}");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}
