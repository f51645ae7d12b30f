//! `gantry render`: releases as files for a GitOps repository.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::gantry::CommandOutput;
use testkit::{Gantry, TestEnvironment};

use crate::story::{self, text};

/// A chart with an account of its own, a password that is another one in each render, a hook, a test, a
/// definition with an object of its kind, an object in another namespace, and an image that no value moves.
const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.3\n"),
    (
        "values.yaml",
        "image: {registry: docker.io, repository: library/redis, tag: '7.0'}\ngreeting: hello\n",
    ),
    (
        "crds/toy.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
         metadata: {name: toys.shop.example}\nspec:\n  group: shop.example\n  scope: Cluster\n  \
         names: {kind: Toy, plural: toys}\n  versions: []\n",
    ),
    (
        "templates/shop.yaml",
        r#"apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-password}
stringData: {password: {{ randAlphaNum 16 | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data:
  greeting: {{ .Values.greeting | quote }}
  yes: "010"
---
apiVersion: shop.example/v1
kind: Toy
metadata: {name: bear}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "shop:reader", namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: x}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      serviceAccountName: {{ .Release.Name }}
      containers:
      - name: server
        image: "{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}"
"#,
    ),
    (
        "templates/hooks.yaml",
        r#"apiVersion: batch/v1
kind: Job
metadata: {name: prepare, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: "quay.io/gantry-examples/dns:2.90"}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: try, annotations: {helm.sh/hook: test}}
spec: {containers: [{name: a, image: "quay.io/gantry-examples/dns:2.90"}]}
"#,
    ),
];

const DEPLOYMENT: &str = "rendered/ai/web/deployment_web.yaml";
const PASSWORD: &str = "rendered/ai/web/secret_web-password.yaml";

/// A user whose chart is locked and loaded into the site.
fn user(world: &TestEnvironment) -> Gantry {
    let input = "version: 1\nname: shop\nplatforms: [linux/amd64]\ncharts:\n\
        - {chart: ./shop, release: web, namespace: ai}\n- {chart: ./shop, release: other, namespace: ai}\n";
    let gantry = story::user(world, input);
    for (name, text) in CHART {
        gantry.write_file(&format!("shop/{name}"), text);
    }
    gantry.run(["lock"]).assert_success();
    let site = world.site().host();
    gantry.write_file(
        "site.yaml",
        &format!("version: 1\nregistry: {{url: '{site}/ai', pullSecret: site-pull}}\n"),
    );
    gantry
}

fn render(gantry: &Gantry, more: &[&str]) -> CommandOutput {
    let first = ["render", "--site", "site.yaml", "-o", "rendered", "--leftovers", "post-render"];
    gantry.run(first.iter().chain(more))
}

fn json(gantry: &Gantry, more: &[&str]) -> Value {
    render(gantry, &[more, &["--output", "json"]].concat()).assert_success().parse_json()
}

fn list_files(folder: &Path) -> Vec<String> {
    let files = story::files(folder).into_iter();
    let relative = |path: PathBuf| text(path.strip_prefix(folder).unwrap());
    files.map(|(path, _)| relative(path)).collect()
}

#[test]
fn releases_are_files_with_stable_names_and_bytes() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);

    let first = json(&gantry, &[]);

    let own = list_files(&gantry.folder().join("rendered/ai/web"));
    let expected = [
        "configmap_web.yaml",
        "crds/customresourcedefinition_toys.shop.example.yaml",
        "deployment_web.yaml",
        "hooks/job_prepare.yaml",
        "rolebinding_kube-system_shop%3Areader.yaml",
        "secret_web-password.yaml",
        "serviceaccount_default.yaml",
        "serviceaccount_web.yaml",
        "toy.shop.example_bear.yaml",
    ];
    assert_eq!(own, expected, "{first:#}");
    let web = &first["releases"][0];
    assert_eq!(web["hooks"], serde_json::json!(["Job ai/prepare"]));
    assert_eq!(web["leftOutHooks"], serde_json::json!(["Pod ai/try"]));
    assert_eq!(web["generated"], serde_json::json!(["Secret ai/web-password"]));
    assert_eq!(web["plainSecrets"], serde_json::json!(["Secret ai/web-password"]));
    let read = |file: &str| types::yaml::read_manifest(&gantry.read_file(file)).unwrap();
    let deployment = read(DEPLOYMENT);
    let image = format!("{}/ai/library/redis", world.site().host());
    let found = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
    assert!(found.starts_with(&image), "{found}");
    assert_eq!(deployment["metadata"]["namespace"], "ai");
    // An image that no value moves is moved in a hook as well, which helm 3 would not hand over.
    let job = gantry.read_file("rendered/ai/web/hooks/job_prepare.yaml");
    assert!(job.contains(&format!("{}/ai/gantry-examples/dns", world.site().host())), "{job}");
    let toy = read("rendered/ai/web/toy.shop.example_bear.yaml");
    assert_eq!(toy["metadata"], serde_json::json!({"name": "bear"}), "of no namespace");
    let map = read("rendered/ai/web/configmap_web.yaml");
    assert_eq!(map["data"], serde_json::json!({"greeting": "hello", "yes": "010"}));
    for account in ["default", "web"] {
        let account = read(&format!("rendered/ai/web/serviceaccount_{account}.yaml"));
        assert_eq!(account["imagePullSecrets"], serde_json::json!([{"name": "site-pull"}]));
    }

    let password = gantry.read_file(PASSWORD);
    let again = json(&gantry, &[]);
    assert_eq!(again["writtenFiles"], serde_json::json!([]), "{again:#}");
    assert_eq!(again["unchangedCount"], 18);
    assert_eq!(gantry.read_file(PASSWORD), password);
    render(&gantry, &["--check"]).assert_success();
}

#[test]
fn what_is_no_longer_needed_goes_and_what_a_person_wrote_is_not_touched() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);
    render(&gantry, &[]).assert_success();
    gantry.write_file("rendered/ai/web/kustomization.yaml", "resources: []\n");

    // A file of one release changes; the other one's are out of date too, and stay until they are asked for.
    let shop = gantry.read_file("shop/values.yaml");
    gantry.write_file("v.yaml", "greeting: good day\n");
    let input =
        gantry.read_file("gantry.yaml").replace("release: web", "release: web, values: [v.yaml]");
    gantry.write_file("gantry.yaml", &input);
    gantry.run(["lock"]).assert_success();
    let stale = render(&gantry, &["--check"]).assert_exit_code(1);
    assert!(stale.stdout.contains("+ rendered/ai/web/configmap_web.yaml"), "{}", stale.stdout);
    assert!(stale.stderr.contains("rendered is out of date"), "{}", stale.stderr);
    assert!(gantry.read_file("rendered/ai/web/configmap_web.yaml").contains("hello"));
    let one = json(&gantry, &["web", "--without-hooks"]);
    assert_eq!(one["writtenFiles"], serde_json::json!(["rendered/ai/web/configmap_web.yaml"]));
    assert_eq!(
        one["removedFiles"],
        serde_json::json!([
            "rendered/ai/web/hooks/job_prepare.yaml",
            "rendered/ai/web/serviceaccount_default.yaml"
        ])
    );
    assert!(gantry.folder().join("rendered/ai/other/hooks/job_prepare.yaml").is_file());
    assert!(!gantry.folder().join("rendered/ai/web/hooks").exists());
    assert_eq!(gantry.read_file("shop/values.yaml"), shop);

    // What stands where a file has to be written is not overwritten, and nothing else is then.
    gantry.write_file(DEPLOYMENT, "kind: Mine\n");
    let refused = render(&gantry, &[]).assert_exit_code(2);
    assert!(refused.stderr.contains("deployment_web.yaml exists already"), "{}", refused.stderr);
    assert!(!gantry.folder().join("rendered/ai/web/hooks").exists());
    assert_eq!(gantry.read_file(DEPLOYMENT), "kind: Mine\n");
    render(&gantry, &["--force"]).assert_success();
    assert!(gantry.read_file(DEPLOYMENT).contains("kind: Deployment"));
    assert_eq!(gantry.read_file("rendered/ai/web/kustomization.yaml"), "resources: []\n");
}

#[test]
fn secrets_go_into_a_folder_of_their_own_and_nobody_else_reads_them() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);
    render(&gantry, &["web"]).assert_success();
    let password = gantry.read_file(PASSWORD);

    let moved = json(&gantry, &["web", "--secrets", "plain"]);

    assert_eq!(moved["releases"][0]["plainSecrets"], serde_json::json!([]));
    assert_eq!(moved["removedFiles"], serde_json::json!([PASSWORD]));
    let file = gantry.folder().join("plain/ai/web/secret_web-password.yaml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_ne!(fs::read_to_string(&file).unwrap(), password, "another password, in another file");
    let again = json(&gantry, &["web", "--secrets", "plain"]);
    assert_eq!(again["writtenFiles"], serde_json::json!([]));
}

#[test]
fn nothing_is_written_that_would_come_from_outside() {
    let world = TestEnvironment::fast();
    let gantry = user(&world);
    let plain = ["render", "--site", "site.yaml", "-o", "rendered"];

    let refused = gantry.run(plain).assert_exit_code(3);

    assert!(refused.stderr.contains("quay.io/gantry-examples/dns:2.90"), "{}", refused.stderr);
    assert!(!gantry.folder().join("rendered").exists());
    let input = gantry.read_file("gantry.yaml").replace(", namespace: ai", "");
    gantry.write_file("gantry.yaml", &input);
    gantry.run(["lock"]).assert_success();
    let nowhere = render(&gantry, &[]).assert_exit_code(2);
    assert!(nowhere.stderr.contains("release web has no namespace"), "{}", nowhere.stderr);
    render(&gantry, &["--namespace", "ai"]).assert_success();
}
