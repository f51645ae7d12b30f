//! The functions of [`Cluster`], on the real cluster of dev/cluster.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use gantry_cluster::objects::api::batch::v1::Job;
use gantry_cluster::objects::api::core::v1::{ConfigMap, Pod, Secret};
use gantry_cluster::objects::serde_json::{from_value, json};
use gantry_cluster::{
    ApplyEffect, ApplyMode, AwaitedPodState, Cluster, ClusterAccess, Error, ForwardTarget,
    ObjectId, ObjectScope, Permission, mark_as_own,
};

const TIMEOUT: Duration = Duration::from_secs(180);

/// A pod of the node's busybox image that runs this script and then waits.
fn busybox(here: &testkit::TestCluster, name: &str, script: &str) -> Pod {
    let mut pod: Pod = from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", 
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
             "image": here.image_name("busybox"), "imagePullPolicy": "Never",
            "command": ["sh", "-c", script],
            "ports": [{"name": "web", "containerPort": 8080}]}]}
    }))
    .unwrap();
    mark_as_own(&mut pod.metadata, "test");
    pod
}

#[tokio::test]
async fn an_expiring_owner_goes_by_itself_and_what_it_owns_goes_with_it() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let space = here.create_namespace("core-expiry");
    let scope = ObjectScope::Namespace(space.name());
    let lifetime = Duration::from_secs(2);

    let owner =
        cluster.create_expiring_owner(space.name(), "owner", "test", lifetime).await.unwrap();
    let mut secret: Secret = from_value(json!({"metadata": {"name": "lent"}})).unwrap();
    secret.metadata.owner_references = Some(vec![owner]);
    cluster.create_object(scope, &secret).await.unwrap();

    let started = Instant::now();
    while cluster.get_object::<Secret>(scope, "lent").await.unwrap().is_some() {
        assert!(started.elapsed() < TIMEOUT, "it is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "too early");
    assert!(cluster.get_object::<Job>(scope, "owner").await.unwrap().is_none());
}

#[tokio::test]
async fn an_object_is_applied_once_and_somebody_elses_is_kept() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    assert!(cluster.fetch_version().await.unwrap().minor.starts_with("34"));
    let space = here.create_namespace("core-apply");
    let namespace = space.name();
    let scope = ObjectScope::Namespace(namespace);
    let mut map: ConfigMap =
        from_value(json!({"metadata": {"name": "settings"}, "data": {"a": "1"}})).unwrap();

    let theirs = cluster.apply_object(scope, &map).await.unwrap();
    let again = cluster.apply_object(scope, &map).await.unwrap();
    map.data.as_mut().unwrap().insert("b".to_owned(), "2".to_owned());
    let changed = cluster.apply_object(scope, &map).await.unwrap();

    assert_eq!(
        (theirs, again, changed),
        (ApplyEffect::Created, ApplyEffect::Same, ApplyEffect::Changed)
    );
    let refused = cluster.delete_own_object::<ConfigMap>(scope, "settings").await.unwrap_err();
    assert!(matches!(refused, Error::NotOurs { .. }), "{refused}");
    mark_as_own(&mut map.metadata, "test");
    cluster.apply_object(scope, &map).await.unwrap();
    assert!(cluster.delete_own_object::<ConfigMap>(scope, "settings").await.unwrap());
    assert!(!cluster.delete_own_object::<ConfigMap>(scope, "settings").await.unwrap());
}

#[tokio::test]
async fn a_manifest_of_any_kind_is_tried_before_it_is_applied() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let space = here.create_namespace("core-manifest");
    let namespace = space.name();
    let manifest = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});

    let tried = cluster.apply_manifest(&manifest, namespace, ApplyMode::DryRun).await.unwrap();
    let id = ObjectId::from_manifest(&manifest, namespace).unwrap();
    assert_eq!(tried.applied, ApplyEffect::Created);
    assert_eq!(cluster.read_manifest(&id).await.unwrap(), None);
    cluster.apply_manifest(&manifest, namespace, ApplyMode::Apply).await.unwrap();
    let again = cluster.apply_manifest(&manifest, namespace, ApplyMode::DryRun).await.unwrap();
    assert_eq!(again.applied, ApplyEffect::Same);

    let unknown =
        json!({"apiVersion": "example.com/v1", "kind": "Wonder", "metadata": {"name": "x"}});
    let error = cluster.apply_manifest(&unknown, namespace, ApplyMode::DryRun).await.unwrap_err();
    assert!(matches!(error, Error::NoKind { .. }), "{error}");
    let scope = ObjectScope::Namespace(namespace);
    let listed = cluster.list_manifests("networking.k8s.io/v1", "NetworkPolicy", scope, "").await;
    assert_eq!(listed.unwrap()[0]["kind"], "NetworkPolicy");
    assert!(cluster.delete_manifest(&id).await.unwrap());
}

#[tokio::test]
async fn a_pod_is_run_talked_to_and_taken_away() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let space = here.create_namespace("core-pod");
    let namespace = space.name();
    let script = "mkdir /tmp/w; echo hello > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w";
    let pod = busybox(&here, "web", script);

    cluster.start_pod(namespace, &pod).await.unwrap();
    cluster.start_pod(namespace, &pod).await.unwrap();
    cluster.wait_for_pod(namespace, "web", AwaitedPodState::Ready, TIMEOUT).await.unwrap();

    let command = ["sh", "-c", "cat; echo complaint >&2; exit 3"];
    let input = vec![b'x'; 300_000];
    let outcome = cluster.run_program(namespace, "web", "main", &command, &input).await.unwrap();
    assert_eq!((outcome.code, outcome.stdout.len()), (3, input.len()));
    assert_eq!(outcome.stderr, "complaint\n");

    let target = ForwardTarget::Pod("web".to_owned());
    let forward = cluster.forward_port(namespace, &target, 8080).await.unwrap();
    let answer = get(forward.address).await;
    assert!(answer.ends_with("hello\n"), "{answer}");

    cluster.remove_pod(namespace, "web").await.unwrap();
    assert!(
        cluster
            .get_object::<Pod>(ObjectScope::Namespace(namespace), "web")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_pod_that_cannot_come_up_says_why() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let space = here.create_namespace("core-why");
    let namespace = space.name();
    let mut foreign = busybox(&here, "foreign", "true");
    let container = &mut foreign.spec.as_mut().unwrap().containers[0];
    container.image = Some("registry.invalid/app:1".to_owned());
    container.image_pull_policy = Some("Always".to_owned());

    cluster.start_pod(namespace, &foreign).await.unwrap();
    // The wait goes on as long as it may, since a registry may come up: a short one until the node
    // has tried.
    let (started, short) = (Instant::now(), Duration::from_secs(2));
    loop {
        let waited =
            cluster.wait_for_pod(namespace, "foreign", AwaitedPodState::Ready, short).await;
        let text = waited.unwrap_err().to_string();
        if text.contains("cannot pull registry.invalid/app:1") {
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "{text}");
    }

    let failing = busybox(&here, "failing", "exit 7");
    cluster.start_pod(namespace, &failing).await.unwrap();
    let error = cluster
        .wait_for_pod(namespace, "failing", AwaitedPodState::Ready, TIMEOUT)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ended with code 7"), "{error}");
}

#[tokio::test]
async fn missing_rights_and_wrong_contexts_are_named() {
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let rights = [Permission::new("create", "apps", "deployments").in_namespace("default")];
    assert!(cluster.find_missing_permissions(&rights).await.unwrap().is_empty());
    let shown = rights[0].to_string();
    assert!(shown.contains(r#"apiGroups: ["apps"], resources: ["deployments"]"#), "{shown}");

    let access =
        ClusterAccess { context: Some("elsewhere".to_owned()), ..ClusterAccess::default() };
    let error = Cluster::connect(&access).await.unwrap_err();
    assert!(matches!(error, Error::NoContext { .. }), "{error}");
}

async fn get(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}
