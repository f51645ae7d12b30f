//! `--set`, `--set-string`, `--set-file` and `--set-json` mean to helm what they mean on helm's own command
//! line, and their texts are not on it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_remote::helm::{HelmBinary, ReleaseSpec};
use proptest::prelude::*;
use types::input::SetExpressions;

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

/// Expressions as `OPTION EXPRESSION`: `set a=1`, `set-json a=[1]`.
fn parse_options(options: &[impl AsRef<str>]) -> SetExpressions {
    let mut set = SetExpressions::default();
    for option in options {
        let (name, expression) = option.as_ref().split_once(' ').unwrap();
        let list = match name {
            "set" => &mut set.typed,
            "set-string" => &mut set.strings,
            "set-file" => &mut set.files,
            "set-json" => &mut set.json,
            other => unreachable!("{other}"),
        };
        list.push(expression.to_owned());
    }
    set
}

fn typed(expressions: &[impl AsRef<str>]) -> Vec<String> {
    expressions.iter().map(|expression| format!("set {}", expression.as_ref())).collect()
}

fn spec(chart: &Path, values: &Path, options: &[impl AsRef<str>]) -> ReleaseSpec {
    ReleaseSpec {
        chart: chart.to_owned(),
        name: "r".to_owned(),
        namespace: None,
        kube_version: None,
        api_versions: vec![],
        values: vec![values.to_owned()],
        set: parse_options(options),
    }
}

/// What helm itself prints with the expressions on its command line; `None` where it refuses them.
fn run_helm(helm: &Path, spec: &ReleaseSpec, options: &[String]) -> Option<String> {
    let mut command = Command::new(helm);
    command.args(["template", "--values"]).arg(&spec.values[0]);
    for option in options {
        let (name, expression) = option.split_once(' ').unwrap();
        command.args([&format!("--{name}"), expression]);
    }
    let output = command.arg("--").arg("r").arg(&spec.chart).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What Gantry's helm and helm itself render.
fn render_both(helm: &Path, folder: &Path, options: &[String]) -> (Option<String>, Option<String>) {
    let (chart, values) = (printer(folder), folder.join("values.yaml"));
    fs::write(&values, VALUES).unwrap();
    let spec = spec(&chart, &values, options);
    let ours = HelmBinary::at_path(helm).unwrap().render_release(&spec);
    (ours.ok(), run_helm(helm, &spec, options))
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
            let (ours, helms) = render_both(&helm, home.path(), &typed(set));
            assert_eq!(ours, helms, "{set:?}");
        }
    }
}

#[test]
fn options_are_merged_in_helm_s_order() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("one"), "first\n").unwrap();
    fs::write(home.path().join("two, really"), "1").unwrap();
    let (one, two) =
        (text_of(&home.path().join("one")), text_of(&home.path().join("two\\, really")));
    for helm in ["helm", "helm4"].map(testkit::tools::tool_path) {
        for options in [
            vec!["set-string n=1,b=true,nothing=null,text=", "set-string list={1,true}"],
            vec!["set-string a.list[0]=7,l[1].b=1", "set-string e[0].b="],
            vec!["set-file p={ONE}", "set-file a.b={TWO},q={ONE}", "set-file list={{ONE},{TWO}}"],
            vec!["set-file none=/does/not/exist"],
            vec![r#"set-json a={"b":"x","list":["y",{"z":1.5}]}"#, "set-json n=1,t=true,x=null,e="],
            vec![r#"set-json a.list[1]={"name":"z"}, more.deep = [1, "two"] , s="x,y""#],
            vec![r#"set-json {"a":{"b":"x"},"list":["y"],"more":{"deep":{"y":2}}}"#],
            vec![r#"set-json a={"b":"x"}"#, r#"set-json {"a":{"c":"y"}}"#, "set-json a.d=1"],
            vec![r#"set-json {"a":"x"}"#, r#"set-json {"a":{"b":"y"}}"#],
            vec![r#"set-json p="x""#, r#"set-json {"p":{"q":"y"}}"#, r#"set-json {"p":"z"}"#],
            vec![r#"set-json big=12345678901,neg=-1,e=1e3,deep=[[["x"]]]"#],
            vec![r#"set-json k={"a.b":{"c,d":"x","e[0]":"y","f=g":"z","":"w"}}"#],
            // Each overrides those before it, whatever the order on the command line is.
            vec!["set-file v={ONE}", "set-string v=string", "set v=set", r#"set-json v="json""#],
            vec!["set-string v=string", "set v=set", r#"set-json v="json""#],
            vec!["set v=set", r#"set-json v={"a":"b"}"#],
            vec![r#"set-json v={"a":"b","c":"d"}"#, "set v.a=1", "set-string v.c=2,v.e=3"],
            vec![r#"set-json v=["a",{"b":"c"}]"#, "set v[0]=1", "set-file v[1].b={ONE}"],
            vec![r#"set-json v=["a"]"#, "set v[0].b=1"],
            vec!["set-string v.a=x", "set v=1"],
            vec![r#"set-json v="x""#, "set v.a=1"],
        ] {
            let options: Vec<String> = options
                .iter()
                .map(|option| option.replace("{ONE}", &one).replace("{TWO}", &two))
                .collect();
            let (ours, helms) = render_both(&helm, home.path(), &options);
            assert_eq!(ours, helms, "{} {options:?}", helm.display());
        }
    }
}

fn text_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
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
        let (ours, helms) =
            render_both(&testkit::tools::tool_path("helm"), home.path(), &typed(&set));
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
    let options = [
        "set password=hunter2",
        "set users[0].token=hunter2",
        "set list={hunter2,b}",
        "set-string pin=hunter2",
        r#"set-json db={"password":"hunter2","port":1}"#,
        r#"set-json ["not", "an", "expression"]"#,
    ];

    let wrong = spec(&chart, &values, &options);
    let failed = HelmBinary::at_path(&helm).unwrap().render_release(&wrong).unwrap_err();
    assert!(!failed.to_string().contains("hunter2"), "{failed}");
    let spec = spec(&chart, &values, &options[..5]);
    let rendered = HelmBinary::at_path(&helm).unwrap().render_release(&spec).unwrap();

    assert_eq!(rendered.matches("hunter2").count(), 5, "{rendered}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("--set-file password=") && !log.contains("hunter2"), "{log}");
}
