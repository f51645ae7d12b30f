//! A release of plain manifests of gantry.yaml, from the lock to its removal: inside the air gap there is
//! no copy of the manifests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::process::Command;

use cluster::objects::api::apps::v1::Deployment;
use testkit::tools;

use crate::support::shop::{Shop, get, releases};

const SERVER: &str = r#"apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {index.html: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      terminationGracePeriodSeconds: 0
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: api
        image: busybox:1.35
        command: [busybox, httpd, -f, -p, "8080", -h, /page]
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: page, mountPath: /page}]
      volumes: [{name: page, configMap: {name: page}}]
"#;

#[tokio::test]
async fn plain_manifests_run_from_the_lock_alone_and_are_removed_again() {
    let here = testkit::TestCluster::from_environment();
    let space = here.reserve_namespace("manifests");
    let namespace = space.name();
    let input =
        format!("  []\nmanifests:\n- {{release: api, namespace: {namespace}, from: api.yaml}}\n");
    let shop = Shop::new(&input, &[("api.yaml", SERVER)]);
    fs::remove_file(shop.inside.folder().join("api.yaml")).unwrap();
    let cluster = shop.connect().await;
    let store = shop.outside.store().display().to_string();
    let deploy = || {
        let result = shop.deploy(&["--from", &store]).assert_success().stdout;
        releases(&serde_json::from_str(&result).unwrap()).remove(0).1
    };
    let image = async || {
        let found: Deployment = get(&cluster, namespace, "api").await.unwrap();
        let pods = found.spec.unwrap().template.spec.unwrap();
        pods.containers[0].image.clone().unwrap()
    };

    assert_eq!(deploy(), "install");
    let moved = image().await;
    assert!(moved.starts_with(&format!("{}/ai/", shop.world.site().host())), "{moved}");
    assert_eq!(deploy(), "none");

    let mut kubectl = Command::new("kubectl");
    kubectl.env("KUBECONFIG", here.kubeconfig()).args([
        "set",
        "image",
        "deployment/api",
        "api=elsewhere.test/api:2",
        "-n",
        namespace,
    ]);
    tools::run_command(&mut kubectl);
    assert_eq!(deploy(), "restore");
    assert_eq!(image().await, moved);

    shop.undeploy(&[]).assert_success();
    assert!(get::<Deployment>(&cluster, namespace, "api").await.is_none());
}
