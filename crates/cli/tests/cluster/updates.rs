//! Updates that keep their names: an image that was built again under its tag, and a model with new files.
//! What changed restarts, and nothing else does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use cluster::objects::api::core::v1::Pod;
use cluster::{Cluster, ObjectScope};

use crate::story::text;
use crate::support::shop::{Shop, is_there, releases};
use testkit::tools;

/// Two servers with an image each, under the default pull policy of a tag (`IfNotPresent`), and a job
/// with the image of the first, whose pods no upgrade may change.
const PAIR: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: pair\nversion: 1.0.0\n"),
    (
        "values.yaml",
        "servers: {first: 'docker.io/library/busybox:1.35', second: 'docker.io/library/redis:7.0'}\n",
    ),
    (
        "templates/servers.yaml",
        r#"{{- range $name, $image := .Values.servers }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ $name }}}
spec:
  selector: {matchLabels: {app: {{ $name }}}}
  template:
    metadata: {labels: {app: {{ $name }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: server, image: {{ $image | quote }}, command: [/bin/busybox, sleep, "100000"]}]
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: once, image: {{ .Values.servers.first | quote }}, command: [/bin/busybox, "true"]}]
"#,
    ),
];

/// The tag that is pushed again, with the content of another image.
const REBUILT: &str = "docker.io/library/busybox:1.35";

/// The running pods of a namespace by their `app`: the pod's uid, and the digest that its node runs.
async fn list_servers(cluster: &Cluster, namespace: &str) -> BTreeMap<String, (String, String)> {
    let pods: Vec<Pod> =
        cluster.list_objects(ObjectScope::Namespace(namespace), "app").await.unwrap();
    let living = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    living
        .map(|pod| {
            let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
            let app = pod.metadata.labels.unwrap()["app"].clone();
            (app, (pod.metadata.uid.unwrap(), status.image_id))
        })
        .collect()
}

#[tokio::test]
async fn a_rebuilt_image_arrives_under_its_tag_and_only_its_pods_restart() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("updates-image");
    let namespace = place.name();
    let web = format!("- {{chart: ./shop, release: web, namespace: {namespace}}}\n");
    let shop = Shop::new(&web, &[]);
    let cluster = shop.connect().await;
    for (name, text) in PAIR {
        shop.outside.write_file(&format!("pair/{name}"), text);
        shop.inside.write_file(&format!("pair/{name}"), text);
    }
    let charts = format!("- {{chart: ./pair, release: pair, namespace: {namespace}}}\n");
    let store = text(shop.outside.store());
    let site = text(&shop.inside.folder().join("site.yaml"));
    let carry = || {
        shop.carry(&charts, &[]);
        shop.outside.run(["fetch"]).assert_success();
        shop.outside.run(["load", &store, "--site", &site]).assert_success();
    };
    carry();
    shop.deploy(&[]).assert_success();
    let before = list_servers(&cluster, namespace).await;
    let same = shop.deploy(&[]).assert_success().parse_json();
    assert_eq!(releases(&same)[0].1, "none", "{same:#}");

    let upstream = shop.world.upstream().host();
    let [from, to] =
        ["nginx:1.22", "busybox:1.35"].map(|name| format!("{upstream}/library/{name}"));
    tools::run_command(tools::tool_command("crane").args(["copy", &from, &to]));
    shop.outside.run(["lock", "--upgrade", REBUILT]).assert_success();
    carry();
    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    let changes = planned["releases"][0]["changes"].as_array().unwrap().clone();
    let done = shop.deploy(&[]).assert_success();

    let names: Vec<&str> = changes.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first"], "{planned:#}");
    assert_eq!(releases(&done.parse_json())[0].1, "upgrade", "{}", done.stderr);
    let after = list_servers(&cluster, namespace).await;
    assert_ne!(before["first"].0, after["first"].0, "its pods are new");
    assert_ne!(before["first"].1, after["first"].1, "its node runs what was built again");
    assert_eq!(before["second"], after["second"], "nothing else was restarted");
    let check = ["check", "--site", "site.yaml", "--after", "--only", "running"];
    shop.inside.run(check).assert_success();

    // Without a pin a tag with other content is no change.
    shop.deploy(&["--pin", "none"]).assert_success();
    let unpinned = list_servers(&cluster, namespace).await;
    assert_ne!(unpinned["second"].0, after["second"].0, "the names changed");
    shop.undeploy(&["--delete-namespace"]).assert_success();
}

/// Three servers, of which two mount the claim of a model target.
const READERS: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: readers\nversion: 1.0.0\n"),
    ("values.yaml", "image: docker.io/library/busybox:1.35\n"),
    (
        "templates/servers.yaml",
        r#"apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: models}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
{{- range $name, $reads := dict "first" true "second" true "third" false }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ $name }}}
spec:
  selector: {matchLabels: {app: {{ $name }}}}
  template:
    metadata: {labels: {app: {{ $name }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: server, image: {{ $.Values.image | quote }}, command: [/bin/busybox, sleep, "100000"]}]
      {{- if $reads }}
      volumes: [{name: models, persistentVolumeClaim: {claimName: models}}]
      {{- end }}
{{- end }}
"#,
    ),
];

#[tokio::test]
async fn what_reads_models_that_changed_restarts_one_after_the_other() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("updates-models");
    let namespace = place.name();
    let shop =
        Shop::new(&format!("- {{chart: ./shop, release: web, namespace: {namespace}}}\n"), &[]);
    let cluster = shop.connect().await;
    for (name, text) in READERS {
        shop.outside.write_file(&format!("readers/{name}"), text);
        shop.inside.write_file(&format!("readers/{name}"), text);
    }
    let site = shop.inside.read_file("site.yaml");
    let target = format!("models: [{{to: 'pvc://{namespace}/models', restart: true}}]\n");
    shop.inside.write_file("site.yaml", &(site + &target));
    let input = format!(
        "version: 1\nname: shop\nplatforms: [linux/amd64]\n\
         charts: [{{chart: ./readers, release: readers, namespace: {namespace}}}]\n\
         models: [{{hf: acme/own, folder: own}}]\n"
    );
    let carry = |weights: &str, lock: &[&str]| {
        shop.outside.write_file("own/config.json", &format!("{{\"weights\": \"{weights}\"}}"));
        shop.outside.write_file("gantry.yaml", &input);
        shop.outside.run(lock).assert_success();
        shop.inside.write_file("gantry.yaml", &input);
        shop.inside.write_file("gantry.lock", &shop.outside.read_file("gantry.lock"));
    };
    carry("one", &["lock"]);
    shop.deploy(&[]).assert_success();
    let before = list_servers(&cluster, namespace).await;
    shop.deploy(&[]).assert_success();
    assert_eq!(list_servers(&cluster, namespace).await, before, "the first deploy only notes it");

    carry("two", &["lock", "--upgrade", "acme/own"]);
    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    let notes = planned["releases"][0]["notes"].to_string();
    assert!(notes.contains("first") && notes.contains("is restarted"), "{planned:#}");
    assert_eq!(list_servers(&cluster, namespace).await, before, "a dry run restarts nothing");
    let done = shop.deploy(&[]).assert_success().parse_json();

    let restarted = done["releases"][0]["restarted"].as_array().unwrap();
    let names: Vec<&str> = restarted.iter().map(|one| one.as_str().unwrap()).collect();
    let expected = ["first", "second"].map(|name| format!("Deployment {namespace}/{name}"));
    assert_eq!(names, expected, "{done:#}");
    assert_eq!(releases(&done)[0].1, "none", "the chart's objects are the same");
    let after = list_servers(&cluster, namespace).await;
    assert_eq!(after["third"], before["third"], "it reads no models");
    assert_ne!(after["first"].0, before["first"].0);
    assert_ne!(after["second"].0, before["second"].0);
    let again = shop.deploy(&[]).assert_success().parse_json();
    assert!(again["releases"][0].get("restarted").is_none(), "{again:#}");
    assert_eq!(list_servers(&cluster, namespace).await, after);
    shop.undeploy(&["--delete-claims", "--delete-namespace"]).assert_success();
}

/// What no value moves: an image in a hook, and a registry behind which a program puts names.
const LEFT: [(&str, &str); 4] = [
    ("Chart.yaml", "apiVersion: v2\nname: left\nversion: 1.0.0\n"),
    ("values.yaml", "hook: true\nregistry: true\n"),
    (
        "templates/hook.yaml",
        "{{- if .Values.hook }}\napiVersion: v1\nkind: Pod\n\
         metadata: {name: prepare, annotations: {helm.sh/hook: pre-install}}\n\
         spec: {restartPolicy: Never, containers: [{name: prepare, image: 'docker.io/library/busybox:1.35', command: [/bin/busybox, 'true']}]}\n\
         {{- end }}\n",
    ),
    (
        "templates/settings.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata:\n  operator.yaml: |\n    a: 1\n    \
         {{- if .Values.registry }}\n    container-registry: quay.io\n    {{- end }}\n",
    ),
];

#[tokio::test]
async fn what_is_left_is_told_before_anything_is_installed_and_the_same_by_relocate() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("updates-left");
    let namespace = place.name();
    let web = format!("- {{chart: ./shop, release: web, namespace: {namespace}}}\n");
    let mut shop = Shop::new(&web, &[]);
    // Helm 3, whose post-renderer does not see hooks.
    shop.inside = shop.inside.env("GANTRY_HELM", tools::tool_path("helm"));
    let cluster = shop.connect().await;
    for (name, text) in LEFT {
        shop.outside.write_file(&format!("left/{name}"), text);
        shop.inside.write_file(&format!("left/{name}"), text);
    }
    let charts =
        format!("- {{chart: ./left, release: left, namespace: {namespace}, values: [v.yaml]}}\n");
    shop.carry(&charts, &[("v.yaml", "registry: false\n")]);
    let relocate = ["relocate", "./left", "-f", "v.yaml", "--site", "site.yaml", "--dry-run"];

    let hook = shop.deploy(&["--leftovers", "post-render"]).assert_exit_code(3).stderr;
    assert!(
        hook.contains("busybox:1.35 in") && hook.contains("helm 3 does not pass hooks"),
        "{hook}"
    );
    shop.inside.run(relocate).assert_exit_code(3);

    shop.inside.write_file("v.yaml", "hook: false\n");
    let registry = "the registry quay.io in";
    let told = shop.inside.run(relocate).assert_exit_code(3).stderr;
    assert!(told.contains(registry), "{told}");
    let refused = shop.deploy(&[]).assert_exit_code(3).stderr;
    assert!(refused.contains(registry) && refused.contains("--leftovers accept"), "{refused}");
    assert!(!is_there(&cluster, namespace).await, "nothing was written so far");

    let done = shop.deploy(&["--leftovers", "accept"]).assert_success();
    assert!(done.stderr.contains(registry), "it is still told: {}", done.stderr);
    shop.undeploy(&["--delete-namespace"]).assert_success();
}
