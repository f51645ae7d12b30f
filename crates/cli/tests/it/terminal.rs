//! What reaches a terminal: text of servers, charts and files without escapes, no content of foreign
//! files, tables that fit; and outputs that cannot be written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::story::{self, alone, chart, in_shell, text};

const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai}\n";
/// Words of the files below that no error may repeat.
const SECRETS: [&str; 4] = ["root:x:0:0", "c2VjcmV0LWtleS1kYXRh", "hunter2", "\u{7f}ELF"];
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
users:
- name: admin
  user: {client-key-data: c2VjcmV0LWtleS1kYXRh, token: hunter2}
clusters: []
contexts: []
current-context: admin
";

#[test]
fn a_foreign_file_given_as_input_is_told_without_its_content() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("right-site.yaml", SITE);
    let users = gantry.write_file("users", &"root:x:0:0:root:/root:/bin/bash\n".repeat(2000));
    let kubeconfig = gantry.write_file("kubeconfig", KUBECONFIG);
    let long = gantry.write_file("long", &format!("a: hunter2{}\n", "x".repeat(1 << 20)));
    let json =
        gantry.write_file("json", &format!("{{\"version\": \"hunter2{}\"}}", "x".repeat(1 << 20)));
    let binary = Path::new(story::BINARY).to_owned();

    let mut wrong = Vec::new();
    for file in [&users, &kubeconfig, &long, &json, &binary] {
        let shown = text(file);
        let input =
            format!("version: 1\nname: x\nimages: [{{image: \"own:1\", archive: {shown}}}]\n");
        gantry.write_file("input/gantry.yaml", &input);
        for (name, folder) in [("gantry.yaml", "as-input"), ("gantry.lock", "as-lock")] {
            let folder = gantry.folder().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(file, folder.join(name)).unwrap();
        }
        for run in [
            &["-C", "input", "lock"][..],
            &["-C", "as-input", "lock"],
            &["-C", "as-lock", "plan"],
            &["relocate", "shop", "--site", &shown],
            &["relocate", "shop", "--site", "right-site.yaml", "-f", &shown, "--dry-run"],
            &["images", &shown],
            &["verify", &shown],
            &["inspect", &shown],
            &["load", &shown, "--to", "./target"],
            &["--config", &shown, "version"],
            &["check", "--kubeconfig", &shown],
            &["evidence", "verify", &shown],
            &["policy", "images", "--site", "right-site.yaml", "--lock", &shown],
            &["policy", "images", "--site", "right-site.yaml", "--receipt", &shown],
        ] {
            let failed = gantry.run(run);
            let printed = failed.stdout.clone() + &failed.stderr;
            let is_clean = printed.chars().all(|c| c == '\n' || !c.is_control());
            let is_quiet = !SECRETS.iter().any(|secret| printed.contains(secret));
            // To helm, any map is a values file.
            let is_refused = matches!(failed.code, Some(1..=3)) || run.contains(&"-f");
            if !is_clean || !is_quiet || !is_refused || printed.len() > 3000 {
                let beginning: String = printed.chars().take(400).collect();
                wrong.push(format!("{run:?}: {:?} {beginning}", failed.code));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_charts_and_files_say_cannot_control_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let escapes = "\\u001b]0;owned\\u0007\\u001b[2J\\u202edetrevni\\u009b31m";
    gantry.write_file(
        "pod.yaml",
        &format!(
            "kind: Pod\nmetadata: {{name: \"{escapes}\"}}\nspec: {{containers: [{{image: \"a/b:1\"}}]}}\n"
        ),
    );
    gantry.write_file("site.yaml", &format!("version: 1\n\"{escapes}\": 1\n"));
    chart(gantry.folder());
    gantry.write_file("shop/templates/fail.yaml", &format!("{{{{ fail \"{escapes}\" }}}}\n"));

    for (run, code) in [
        (&["images", "pod.yaml"][..], 0),
        (&["images", "pod.yaml", "--explain", "a/b"], 0),
        (&["images", "pod.yaml", "--output", "json"], 0),
        (&["relocate", "shop", "--site", "site.yaml"], 2),
        (&["relocate", "shop", "--site", "site.yaml", "--output", "json"], 2),
        (&["images", "shop"], 2),
        (&["images", "\u{1b}[2J"], 2),
        (&["\u{1b}[2J"], 2),
        (&["--output", "\u{1b}[2J"], 2),
    ] {
        let run = gantry.run(run).assert_exit_code(code);
        let printed = run.stdout + &run.stderr;
        let is_clean = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(printed.chars().all(is_clean), "{printed:?}");
        // clap takes escapes out of its own messages.
        assert!(printed.contains("[2J") || printed.contains("--help"), "{printed:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_no_panic() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    for (line, code) in [
        ("\"$0\" version > /dev/full", 1),
        ("\"$0\" --help > /dev/full", 1),
        ("\"$0\" version --output json > /dev/full", 1),
        ("\"$0\" lock 2> /dev/full", 2),
        ("\"$0\" lock --output json 2> /dev/full", 2),
        ("\"$0\" nonsense 2> /dev/full", 2),
        ("\"$0\" lock 2>&-", 2),
        ("\"$0\" version >&- 2>&-", 0),
        ("\"$0\" lock -vv 2> /dev/full", 2),
        // The reader is gone before anything is written.
        ("{ sleep 0.3; \"$0\" --help; echo $? >&3; } 3>&1 >&4 | true; wait", 0),
    ] {
        let line = format!("exec 4>/dev/null; {line}");
        let run = in_shell(&gantry, &line);
        assert_eq!(run.status.code(), Some(code), "{line}: {}", shown(&run));
    }
}

#[test]
fn a_table_fits_the_terminal_and_is_whole_when_it_is_piped() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let long =
        "registry.example.internal:5000/a-team/a-project/an-image-with-a-long-name:2026.11.30";
    gantry.write_file(
        "pod.yaml",
        &format!(
            "kind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{image: \"{long}\"}}]}}\n"
        ),
    );

    let piped = gantry.run(["images", "pod.yaml"]).assert_success();
    assert!(piped.stdout.contains(long), "{}", piped.stdout);
    // util-linux's `script` runs a command on a terminal of its own.
    let line = "script -qec \"stty rows 24 cols 80; '$0' images pod.yaml\" /dev/null";
    let run = in_shell(&gantry, line);
    let table = shown(&run);
    assert!(run.status.success(), "{table}");
    assert!(table.contains('…') && table.contains("2026.11.30"), "{table}");
    assert!(table.lines().all(|line| line.trim_end().chars().count() <= 80), "{table}");
}

fn shown(run: &Output) -> String {
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}
