//! `gantry render` for a GitOps repository: what kubectl applies of it is what a deploy installs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use cluster::{Cluster, ObjectId};
use serde_json::Value;
use testkit::tools;

use crate::support::shop::{SECRET, Shop};

/// The objects of the chart.
const OBJECTS: [(&str, &str, &str); 6] = [
    ("v1", "ServiceAccount", "web"),
    ("v1", "ServiceAccount", "default"),
    ("v1", "Secret", "web-password"),
    ("v1", "ConfigMap", "web"),
    ("v1", "PersistentVolumeClaim", "web-data"),
    ("apps/v1", "Deployment", "web"),
];

/// What the API server and the controllers write, in the metadata of an object.
const SERVER_FIELDS: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "namespace"];

/// The marks of who applied an object: helm, kubectl, Gantry, and what a controller notes.
const MARKS: [&str; 9] = [
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
    "app.kubernetes.io/managed-by",
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "gantry.dev/pull-secret",
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
];

/// An object as its author wrote it: without its status, and without what differs between two clusters.
fn strip_object(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    if fields["kind"] == "Secret" {
        // A password that the chart makes up.
        fields.remove("data");
    }
    let metadata = fields["metadata"].as_object_mut().unwrap();
    for field in SERVER_FIELDS.iter().chain(&["finalizers"]) {
        metadata.remove(*field);
    }
    for kind in ["annotations", "labels"] {
        if let Some(Value::Object(marks)) = metadata.get_mut(kind) {
            marks.retain(|name, _| {
                !MARKS.contains(&name.as_str()) && !name.contains("storage-provisioner")
            });
            if marks.is_empty() {
                metadata.remove(kind);
            }
        }
    }
    if let Some(Value::Object(spec)) = fields.get_mut("spec") {
        spec.remove("volumeName");
    }
    object.sort_all_objects();
    object
}

async fn read(
    cluster: &Cluster,
    namespace: &str,
    (version, kind, name): (&str, &str, &str),
) -> Value {
    let id = ObjectId {
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
    };
    let found = cluster.read_manifest(&id).await.unwrap();
    strip_object(found.unwrap_or_else(|| panic!("{id} is not there")))
}

#[tokio::test]
async fn what_kubectl_applies_of_a_render_is_what_a_deploy_installs() {
    let here = testkit::TestCluster::from_environment();
    let deployed = here.reserve_namespace("gitops-deploy");
    let applied = here.create_namespace("gitops-render");
    let release = |namespace: &str| {
        format!("- {{chart: ./shop, release: web, namespace: {namespace}, values: [v.yaml]}}\n")
    };
    let values = [("v.yaml", "greeting: hello\n")];
    let shop = Shop::new(&release(deployed.name()), &values);
    let cluster = shop.connect().await;
    shop.deploy(&[]).assert_success();

    shop.carry(&release(applied.name()), &values);
    let render = ["render", "--site", "site.yaml", "-o", "rendered"];
    shop.inside.run(render).assert_success();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", here.kubeconfig()).args(arguments);
        tools::run_command(command.current_dir(shop.inside.folder()))
    };
    kubectl(&["apply", "--server-side", "--force-conflicts", "--recursive", "-f", "rendered"]);

    for object in OBJECTS {
        let (first, second) = (
            read(&cluster, deployed.name(), object).await,
            read(&cluster, applied.name(), object).await,
        );
        assert_eq!(first, second, "{object:?}");
    }
    let account = read(&cluster, applied.name(), ("v1", "ServiceAccount", "default")).await;
    assert_eq!(account["imagePullSecrets"][0]["name"], SECRET);
    let again = shop.inside.run([&render[..], &["--check"]].concat()).assert_success();
    assert!(again.stdout.contains("0 written"), "{}", again.stdout);
}
