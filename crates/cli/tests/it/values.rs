//! Values as helm takes them: on the command line, in files, from pipes, and in gantry.yaml.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Output;

use crate::story::{alone, in_shell};
use testkit::Gantry;

const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai}\n";

/// A user with a chart whose image is made of several values.
fn user(home: &std::path::Path) -> Gantry {
    let gantry = alone(home);
    gantry.write_file("app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n");
    gantry.write_file(
        "app/values.yaml",
        "registry: quay.io\nname: app\ntag: '1'\nextra: []\nrealm: none\n",
    );
    gantry.write_file(
        "app/templates/pod.yaml",
        "\
apiVersion: v1
kind: Pod
metadata: {name: app, annotations: {realm: {{ .Values.realm | quote }}}}
spec:
  containers:
    - {name: app, image: \"{{ .Values.registry }}/a/{{ .Values.name }}:{{ .Values.tag }}\"}
    {{- range .Values.extra }}
    - {name: \"{{ .name }}\", image: \"{{ .image }}\"}
    {{- end }}
",
    );
    gantry.write_file("site.yaml", SITE);
    gantry
}

fn list(gantry: &Gantry, more: &[&str]) -> String {
    let base = ["images", "app", "--list"];
    gantry.run(base.iter().chain(more)).assert_success().stdout
}

#[test]
fn every_option_means_what_it_means_to_helm() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    gantry.write_file("tag", "from-a-file");
    gantry.write_file("values.yaml", "tag: from-values\nname: from-values\n");

    assert_eq!(list(&gantry, &["--set-string", "tag=007"]), "quay.io/a/app:007\n");
    assert_eq!(list(&gantry, &["--set-string", "tag=1e6,name=true"]), "quay.io/a/true:1e6\n");
    assert_eq!(list(&gantry, &["--set-file", "tag=tag"]), "quay.io/a/app:from-a-file\n");
    let extra = r#"extra=[{"name":"x","image":"quay.io/a/x:1"}]"#;
    assert_eq!(list(&gantry, &["--set-json", extra]), "quay.io/a/app:1\nquay.io/a/x:1\n");
    // Files, then JSON, then --set, then texts, then files of texts, whatever their order is here.
    let all = [
        ["--set-file", "tag=tag"],
        ["--set-string", "tag=text"],
        ["--set", "tag=set"],
        ["--set-json", r#"tag="json""#],
        ["-f", "values.yaml"],
    ];
    for first in 0..all.len() {
        let expected = ["from-a-file", "text", "set", "json", "from-values"][first];
        let options = all[first..].concat();
        assert_eq!(list(&gantry, &options), format!("quay.io/a/from-values:{expected}\n"));
    }
}

#[test]
fn all_verbs_that_render_take_them() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    gantry.write_file("realm.json", "{\"url\": \"https://updates.example.com\"}");
    let values = [
        "--set-string",
        "tag=007",
        "--set-file",
        "realm=realm.json",
        "--set-json",
        r#"extra=[{"name":"x","image":"quay.io/a/x:1"}]"#,
    ];

    let relocate = ["relocate", "app", "--site", "site.yaml", "--output", "json"];
    let moved = gantry.run(relocate.iter().chain(&values));
    // An image that only `--set-json` names cannot be moved by an overlay.
    let moved = moved.assert_exit_code(2);
    assert!(moved.stderr.contains("--set or one of its siblings"), "{}", moved.stderr);
    let moved = gantry.run(relocate.iter().chain(&values[..4])).assert_success().parse_json();
    assert_eq!(moved["moved"][0]["image"], "quay.io/a/app:007", "{moved:#}");

    let egress = ["policy", "egress", "app", "--site", "site.yaml", "--namespace", "shop"];
    gantry.run(egress.iter().chain(&values)).assert_success();
    let audit = ["audit", "--no-live", "--chart", "app", "--site", "site.yaml"];
    let found = gantry.run(audit.iter().chain(&values));
    assert!(found.code.is_some_and(|code| code != 2), "{}", found.stderr);
    let nowhere = gantry.run(["images", "--set", "a=b"]).assert_exit_code(2);
    assert!(nowhere.stderr.contains("on the command line"), "{}", nowhere.stderr);
    let alone = gantry.run(["audit", "--no-live", "--manifests", "x.yaml", "--set-string", "a=b"]);
    assert!(alone.assert_exit_code(2).stderr.contains("--chart"));
}

#[test]
fn the_input_has_the_same_and_files_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    gantry.write_file("input/tag", "from-a-file");
    gantry.write_file(
        "input/gantry.yaml",
        "\
version: 1
name: app
charts:
  - chart: ../app
    set: [tag=set]
    setString: [name=007]
    setFile: [tag=tag]
    setJson: ['extra=[{\"name\":\"x\",\"image\":\"quay.io/a/x:1\"}]']
",
    );

    let images = gantry.run(["-C", "input", "images", "--list"]).assert_success().stdout;

    assert_eq!(images, "quay.io/a/007:from-a-file\nquay.io/a/x:1\n");
    fs::remove_file(gantry.folder().join("input/tag")).unwrap();
    let missing = gantry.run(["-C", "input", "images"]).assert_exit_code(2);
    assert!(missing.stderr.contains("input/tag of --set-file tag"), "{}", missing.stderr);
}

#[test]
fn standard_input_and_pipes_are_read_once() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    let shown = |run: &Output| {
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
    };
    for line in [
        "echo 'tag: piped' | \"$0\" images app --list -f -",
        "\"$0\" images app --list -f <(echo 'tag: piped')",
        "\"$0\" images app --list --set-file tag=<(printf piped)",
        // Rendered many times.
        "echo 'tag: piped' | \"$0\" relocate app --site site.yaml -f - -o overlay.yaml",
    ] {
        let run = in_shell(&gantry, line);
        assert!(run.status.success() && shown(&run).contains("a/app:piped"), "{}", shown(&run));
    }
    for (line, expected) in [
        ("echo 'tag: x' | \"$0\" images app -f - -f -", "given twice"),
        ("echo 'kind: Pod' | \"$0\" images - app -f -", "only be read once"),
        ("echo x | \"$0\" images app --set-file tag=-", "-f -"),
        ("head -c 40M /dev/zero | \"$0\" images app -f -", "is longer than"),
        ("script -qec \"'$0' images app -f -\" /dev/null", "no values on standard input"),
    ] {
        let run = in_shell(&gantry, line);
        assert_eq!(run.status.code(), Some(2), "{line}: {}", shown(&run));
        assert!(shown(&run).contains(expected), "{line}: {}", shown(&run));
    }
    let left: Vec<_> = fs::read_dir(std::env::temp_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("gantry-values-"))
        .collect();
    assert!(left.len() <= 2, "other tests have some for a moment: {left:?}");
}

#[test]
fn a_mistake_is_told_without_the_secret_in_it() {
    let home = tempfile::tempdir().unwrap();
    let gantry = user(home.path());
    for (option, expected) in [
        (["--set-json", "db={\"password\": hunter2}"], "not valid JSON"),
        (["--set-json", "db=\"hunter2\",db.password=1"], "set to a text before"),
        (["--set-string", "db.password.[0=hunter2"], "--set-string"),
        (["--set-string", "tag={hunter2"], "must terminate"),
        (["--set-file", "tag=/no/such/file"], "cannot read the file /no/such/file"),
    ] {
        for format in ["table", "json"] {
            let failed = gantry.run(["images", "app", option[0], option[1], "--output", format]);
            let failed = failed.assert_exit_code(2);
            let all = failed.stdout.clone() + &failed.stderr;
            assert!(!all.contains("hunter2"), "{option:?}: {all}");
            assert!(all.contains(expected), "{option:?}: {all}");
        }
    }
}
