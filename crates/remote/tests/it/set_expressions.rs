//! `--set` means to helm what it means on helm's own command line, and its texts are not on it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_remote::helm::{HelmBinary, ReleaseSpec};
use proptest::prelude::*;

/// A chart that prints its values, with the type of each.
fn printer(folder: &Path) -> PathBuf {
    let chart = folder.join("printer");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: printer\nversion: 1.0.0\n").unwrap();
    let values = "a: {b: 1, list: [x, {name: y, port: 1}]}\nlist: [1, 2, 3]\ntext: x\n";
    fs::write(chart.join("values.yaml"), values).unwrap();
    fs::write(chart.join("templates/all.yaml"), "all: {{ printf \"%#v\" .Values | quote }}\n")
        .unwrap();
    chart
}

/// A values file on top of the chart's: lists in it are changed in place by an index.
const VALUES: &str = "a: {list: [p, {name: q, port: 2}, r]}\nmore: {deep: {x: 1}}\n";

fn spec(chart: &Path, values: &Path, set: &[String]) -> ReleaseSpec {
    ReleaseSpec {
        chart: chart.to_owned(),
        name: "r".to_owned(),
        namespace: None,
        kube_version: None,
        api_versions: vec![],
        values: vec![values.to_owned()],
        set: set.to_vec(),
    }
}

/// What helm itself prints with the expressions on its command line; `None` where it refuses them.
fn run_helm(helm: &Path, spec: &ReleaseSpec) -> Option<String> {
    let mut command = Command::new(helm);
    command.args(["template", "--values"]).arg(&spec.values[0]);
    for expression in &spec.set {
        command.args(["--set", expression]);
    }
    let output = command.arg("--").arg("r").arg(&spec.chart).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What Gantry's helm and helm itself render.
fn render_both(helm: &Path, folder: &Path, set: &[String]) -> (Option<String>, Option<String>) {
    let (chart, values) = (printer(folder), folder.join("values.yaml"));
    fs::write(&values, VALUES).unwrap();
    let spec = spec(&chart, &values, set);
    let ours = HelmBinary::at_path(helm).unwrap().render_release(&spec);
    (ours.ok(), run_helm(helm, &spec))
}

#[test]
fn expressions_mean_what_they_mean_on_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    for helm in ["helm", "helm4"].map(testkit::tools::tool_path) {
        for set in [
            &["a.b=x"][..],
            &["text=,a.b="],
            &["n=1234567,m=007,z=0,f=1.5,neg=-3,big=99999999999999999999,plus=+5"],
            &["t=true,f=FALSE,n=null,text=null,s=nullify"],
            &["a.list[0]=z,a.list[1].name=changed,a.list[4]=far"],
            &["a.list={x,2,true,}", "list={}"],
            &["list={secret}", "list[2]=7"],
            &["new[1].deep[0].key=v,new[0]=1"],
            &["nested[0][1]=v"],
            &[r"a\.b=x,c=x\,y\\z,d=a=b=c,k\[0\]=v"],
            &["url=https://user:pw@host/?q=1&r={2}", "json={\"a\":1}"],
            &["a=x", "a=y"],
            &["more.deep=null", "text=first", "text=null"],
            &["l[0]=x", "l[0].b=y"],
            &["l={a,b}tail=x"],
            &["more=x"],
            &["ключ.名前=значение", "space = a b "],
            &["line=a\nb\n"],
            &["a.b=1,"],
        ] {
            let set: Vec<String> = set.iter().map(ToString::to_string).collect();
            let (ours, helms) = render_both(&helm, home.path(), &set);
            assert_eq!(ours, helms, "{set:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever helm accepts means the same. What helm refuses may be accepted where a later expression
    /// replaces it: `a[0]=x` and `a=x`, with a map `a`.
    #[test]
    fn any_expressions_mean_the_same(
        set in prop::collection::vec(
            "(a|b|c)((\\.|\\[[0-2]\\]\\.)(a|b))?(\\[[0-1]\\])?=(x|1|true|null||007|\\{x,1\\}|\\{\\})(,(b|d)=(y|2))?",
            1..4,
        )
    ) {
        let home = tempfile::tempdir().unwrap();
        let (ours, helms) = render_both(&testkit::tools::tool_path("helm"), home.path(), &set);
        if helms.is_some() {
            prop_assert_eq!(ours, helms);
        }
    }
}

#[test]
fn no_text_is_on_helm_s_command_line() {
    let home = tempfile::tempdir().unwrap();
    let (helm, log) = (home.path().join("helm"), home.path().join("log"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {} \"$@\"\n",
        log.display(),
        testkit::tools::tool_path("helm").display()
    );
    fs::write(&helm, script).unwrap();
    fs::set_permissions(&helm, fs::Permissions::from_mode(0o755)).unwrap();
    let (chart, values) = (printer(home.path()), home.path().join("values.yaml"));
    fs::write(&values, VALUES).unwrap();
    let set = ["password=hunter2", "users[0].token=hunter2", "list={hunter2,b}"];
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();

    let spec = spec(&chart, &values, &set);
    let rendered = HelmBinary::at_path(&helm).unwrap().render_release(&spec).unwrap();

    assert_eq!(rendered.matches("hunter2").count(), 3, "{rendered}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("--set-file password=") && !log.contains("hunter2"), "{log}");
}
