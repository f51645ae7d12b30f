//! What people change by hand in a deployed chart: it is seen, told, and put back or kept.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use cluster::objects::api::apps::v1::Deployment;
use serde_json::Value;
use testkit::tools;

use crate::support::shop::{Shop, get, records, releases};

/// Runs kubectl in a namespace of the shop's cluster.
fn kubectl(shop: &Shop, namespace: &str, arguments: &[&str]) {
    let done = tools::tool_command("kubectl")
        .arg("--kubeconfig")
        .arg(shop.here.kubeconfig())
        .args(["--namespace", namespace])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn action(result: &Value) -> &str {
    result["releases"][0]["action"].as_str().unwrap()
}

async fn test_drift(helm: &str, story: &str) {
    let place = testkit::TestCluster::from_environment().reserve_namespace(story);
    let namespace = place.name();
    let chart =
        format!("- {{chart: ./shop, release: web, namespace: {namespace}, values: [v.yaml]}}\n");
    let mut shop = Shop::new(&chart, &[("v.yaml", "greeting: hello\n")]);
    shop.inside = shop.inside.env("GANTRY_HELM", tools::tool_path(helm));
    let cluster = shop.connect().await;
    shop.deploy(&[]).assert_success();

    kubectl(&shop, namespace, &["set", "image", "deployment/web", "server=elsewhere.test/web:2"]);
    kubectl(&shop, namespace, &["set", "env", "deployment/web", "DEBUG=1"]);
    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    assert_eq!(action(&planned), "restore", "{planned:#}");
    let plan = &planned["releases"][0];
    assert_eq!(plan["drift"][0]["manager"], "kubectl-set");
    let diff = plan["changes"][0]["diff"].as_str().unwrap();
    assert!(diff.contains("-        image: elsewhere.test/web:2"), "{diff}");

    let kept = shop.deploy(&["--adopt-drift", "--dry-run"]).assert_success().parse_json();
    assert_eq!(action(&kept), "none", "{kept:#}");
    assert_eq!(kept["releases"][0]["drift"][0]["outcome"], "adopted");

    let done = shop.deploy(&[]).assert_success();
    assert_eq!(releases(&done.parse_json()), [("web".to_owned(), "restore".to_owned(), 1)]);
    let web: Deployment = get(&cluster, namespace, "web").await.unwrap();
    let container = web.spec.unwrap().template.spec.unwrap().containers.remove(0);
    assert!(container.image.unwrap().contains("/ai/library/busybox"));
    assert!(container.env.unwrap_or_default().is_empty());
    assert_eq!(records(&cluster, namespace, "web").await, ["deployed"]);
    assert_eq!(action(&shop.deploy(&[]).assert_success().parse_json()), "none");

    // Together with a change of the release itself.
    kubectl(&shop, namespace, &["set", "env", "deployment/web", "DEBUG=2"]);
    kubectl(&shop, namespace, &["scale", "deployment/web", "--replicas", "0"]);
    shop.inside.write_file("v.yaml", "greeting: good day\n");
    let upgraded = shop.deploy(&[]).assert_success().parse_json();
    assert_eq!(releases(&upgraded), [("web".to_owned(), "upgrade".to_owned(), 2)]);
    let web: Deployment = get(&cluster, namespace, "web").await.unwrap();
    let spec = web.spec.unwrap();
    assert_eq!(spec.replicas, Some(1));
    assert!(spec.template.spec.unwrap().containers[0].env.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(action(&shop.deploy(&[]).assert_success().parse_json()), "none");
    shop.undeploy(&["--delete-claims", "--delete-namespace"]).assert_success();
}

#[tokio::test]
async fn what_kubectl_changed_in_a_chart_is_put_back() {
    test_drift("helm", "apply-drift-3").await;
}

#[tokio::test]
async fn what_kubectl_changed_in_a_chart_of_helm_4_is_put_back() {
    test_drift("helm4", "apply-drift-4").await;
}
