//! The webhook in a real cluster: it runs from Gantry's own image, moves images that no overlay moved,
//! refuses images that were not locked, and renews its certificate. While it is down, pods are refused
//! in its namespaces only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::story;
use crate::support::guard::{
    self, Gone, Ground, LOCKED, container, image, pod, refused, runs, spec, try_pod,
};
use cluster::objects::ByteString;
use cluster::objects::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration,
};
use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::{EphemeralContainer, Namespace, Pod, Secret};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{Cluster, Error, ObjectId, ObjectScope};

const GUARD: &str = "gantry.dev/guard";

#[tokio::test]
async fn leftovers_are_moved_strangers_refused_and_only_its_namespaces_closed_when_it_is_down() {
    let ground = Ground::new();
    let cluster = ground.here.connect().await;
    let (guarded, free) =
        (ground.here.create_namespace("guarded"), ground.here.create_namespace("unguarded"));
    let own = ground.here.reserve_namespace("hook");
    let (there, home, name) = (guarded.name(), own.name(), format!("gantry-{}", own.name()));
    let arguments = [
        "webhook",
        "manifests",
        "--site",
        "site.yaml",
        "--receipt",
        "receipt.json",
        "--digests",
        "--namespace",
        home,
        "--name",
        &name,
        "--only",
        there,
        "--output",
        "json",
    ];
    let written = ground.gantry.run(arguments).assert_success().parse_json();
    let _gone = Gone::new(&ground, &written["manifests"]);

    let applied =
        ground.gantry.run(arguments.iter().chain(&["--apply"])).assert_success().parse_json();
    let again =
        ground.gantry.run(arguments.iter().chain(&["--apply"])).assert_success().parse_json();
    let done = |outcome: &cluster::objects::serde_json::Value, what: &str| {
        let objects = outcome["objects"].as_array().unwrap();
        objects.iter().all(|object| object["outcome"] == what)
    };
    assert!(done(&applied, "created") && done(&again, "same"), "{applied:#}\n{again:#}");

    // The namespace is not labelled yet, so nothing is refused.
    try_pod(&cluster, there, &pod("before", "foreign.internal/x:1")).await.unwrap();
    label(&cluster, there, "enforce").await;
    let why = guard::until("the webhook is asked", async || {
        try_pod(&cluster, there, &pod("probe", "docker.io/library/busybox:9"))
            .await
            .err()
            .map(|error| error.to_string())
            .filter(|why| why.contains("gantry:"))
    })
    .await;
    assert!(why.contains("busybox is locked as 1.35"), "{why}");

    let moved = runs(&cluster, there, &pod("leftover", "busybox:1.35")).await;
    assert_eq!(image(&moved), format!("{}@{}", ground.at_site(), ground.digest()));
    let debug =
        |image: &str| -> EphemeralContainer { from_value(container("debug", image)).unwrap() };
    let with_debug =
        cluster.add_ephemeral_container(there, "leftover", debug(LOCKED)).await.unwrap();
    let ephemeral = with_debug.spec.unwrap().ephemeral_containers.unwrap();
    assert!(ephemeral[0].image.as_deref().unwrap().starts_with(&ground.at_site()), "{ephemeral:?}");
    let why = cluster
        .add_ephemeral_container(there, "leftover", debug("evil.example/x:1"))
        .await
        .unwrap_err();
    assert!(matches!(why, Error::Refused { .. }), "{why}");
    let why = refused(&cluster, there, &pod("stranger", &ground.foreign())).await;
    assert!(why.contains(&ground.foreign()) && why.contains("gantry.yaml"), "{why}");
    let deployment: Deployment = from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec(LOCKED)}},
    }))
    .unwrap();
    cluster.apply_object(ObjectScope::Namespace(there), &deployment).await.unwrap();
    guard::until("the deployment's pod runs from the site", async || {
        let pods: Vec<Pod> =
            cluster.list_objects(ObjectScope::Namespace(there), "app=web").await.unwrap();
        pods.iter().find(|pod| cluster::explain_pod(pod).is_none()).map(|pod| {
            assert!(image(pod).starts_with(&ground.at_site()));
        })
    })
    .await;

    renewed(&cluster, home, &name).await;
    guard::until("it answers with the new certificate", async || {
        let tried = try_pod(&cluster, there, &pod("renewed", LOCKED)).await;
        tried.ok().filter(|pod| image(pod).starts_with(&ground.at_site()))
    })
    .await;

    scale(&cluster, home, &name, 0).await;
    let why = refused(&cluster, there, &pod("closed", LOCKED)).await;
    assert!(why.contains("failed calling webhook"), "{why}");
    try_pod(&cluster, free.name(), &pod("free", "foreign.internal/x:1")).await.unwrap();
    // Changes without a new image do not call the webhook: pods can still be labelled and deleted.
    let mut running: Pod =
        cluster.get_object(ObjectScope::Namespace(there), "leftover").await.unwrap().unwrap();
    running.metadata.labels.get_or_insert_default().insert("touched".into(), "yes".into());
    cluster.replace_object(ObjectScope::Namespace(there), &running).await.unwrap();
    cluster.remove_pod(there, "leftover").await.unwrap();
    label(&cluster, there, "move").await;
    guard::until("a namespace that only moves stays open", async || {
        try_pod(&cluster, there, &pod("open", "foreign.internal/x:1")).await.ok()
    })
    .await;
}

#[tokio::test]
async fn it_serves_outside_of_the_cluster_too_and_follows_the_lock() {
    let ground = Ground::new();
    let cluster = ground.here.connect().await;
    let guarded = ground.here.create_namespace("outside");
    let there = guarded.name();
    let name = format!("gantry-{there}");
    let listen = format!("{}:0", ground.here.host());
    let own = format!("{there}/webhook");
    let host = ground.here.host().to_string();
    let mut running = ground.gantry.start([
        "webhook",
        "--site",
        "site.yaml",
        "--receipt",
        "receipt.json",
        "--listen",
        &listen,
        "--self-signed",
        &own,
        "--host",
        &host,
        "--configuration",
        &name,
    ]);
    let url = running.wait_for_word_after("repositories on ");
    let arguments = [
        "webhook",
        "manifests",
        "--site",
        "site.yaml",
        "--name",
        &name,
        "--url",
        &url,
        "--only",
        there,
        "--output",
        "json",
    ];
    let written = ground.gantry.run(arguments).assert_success().parse_json();
    let _gone = Gone::new(&ground, &written["manifests"]);
    assert_eq!(written["objects"].as_array().unwrap().len(), 1);

    label(&cluster, there, "enforce").await;
    ground.gantry.run(arguments.iter().chain(&["--apply"])).assert_success();

    let moved = guard::until("it knows its authority and answers", async || {
        try_pod(&cluster, there, &pod("leftover", LOCKED))
            .await
            .ok()
            .filter(|pod| image(pod) != LOCKED)
    })
    .await;
    assert_eq!(image(&moved), ground.at_site());
    let lock = ground.gantry.read_file("gantry.lock").replace("busybox:1.35", "busybox:1.37");
    ground.gantry.write_file("gantry.lock", &lock);
    guard::until("the lock is read again", async || {
        try_pod(&cluster, there, &pod("leftover", LOCKED)).await.err()
    })
    .await;
    assert_eq!(running.terminate(), Some(0));
    let why = refused(&cluster, there, &pod("closed", LOCKED)).await;
    assert!(why.contains("failed calling webhook"), "{why}");
}

/// Enough of a lock for the webhook's manifests.
const SOME_LOCK: &str = "version: 1\nname: shop\nplatforms: [linux/amd64]\nimages:\n\
- reference: quay.io/shop/web:1\n  digest: sha256:abababababababababababababababababababababababababababababababab\n  \
mediaType: m\n  size: 1\n  platforms: [linux/amd64]\n  manifests: [{digest: \
'sha256:abababababababababababababababababababababababababababababababab', size: 1, mediaType: m}]\n  \
seen: [{by: gantry.yaml}]\n";

#[tokio::test]
async fn the_webhook_s_account_may_change_nothing_in_its_configuration_but_the_authority() {
    type Change = fn(&mut MutatingWebhookConfiguration);
    let here = testkit::TestCluster::from_environment();
    let cluster = here.connect().await;
    let own = here.create_namespace("hook-rights");
    let (home, name) = (own.name(), format!("gantry-{}", own.name()));
    let folder = tempfile::tempdir().unwrap();
    let gantry = story::alone(folder.path());
    gantry.write_file("gantry.lock", SOME_LOCK);
    gantry.write_file("site.yaml", "version: 1\nregistry: {url: 'registry.internal:5000'}\n");
    let arguments = ["webhook", "manifests", "--site", "site.yaml", "--image", "r.internal/g:1"];
    let place = ["--namespace", home, "--name", &name, "--output", "json"];
    let written = gantry.run(arguments.iter().chain(&place)).assert_success().parse_json();
    let manifests = written["manifests"].as_array().unwrap();
    // Its pods are of no matter here, and the namespace is there.
    let needed = manifests.iter().filter(|manifest| {
        !["Namespace", "Deployment"].contains(&manifest["kind"].as_str().unwrap())
    });
    let needed: Value = needed.cloned().collect();
    let _gone = Gone::of_cluster(&here, &needed);
    guard::apply(&cluster, home, &needed).await;
    let account = connect_as(&here, &format!("system:serviceaccount:{home}:{name}")).await;
    let read = async || -> MutatingWebhookConfiguration {
        account.get_object(ObjectScope::Cluster, &name).await.unwrap().unwrap()
    };
    let renew: Change = |configuration| {
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let bundle = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
            webhook.client_config.ca_bundle = Some(ByteString(bundle.to_vec()));
        }
    };
    let changes: [(&str, Change); 9] = [
        ("every namespace", |it| first(it).namespace_selector = None),
        ("kube-system", |it| {
            first(it).namespace_selector.as_mut().unwrap().match_expressions = None;
        }),
        ("every kind", |it| {
            first(it).rules.as_mut().unwrap()[0].resources = Some(vec!["*".into()]);
        }),
        ("open when it is down", |it| first(it).failure_policy = Some("Ignore".into())),
        ("no condition", |it| first(it).match_conditions = None),
        ("another address", |it| {
            first(it).client_config.service.as_mut().unwrap().name = "other".into();
        }),
        ("one webhook less", |it| drop(it.webhooks.as_mut().unwrap().pop())),
        ("no label", |it| it.metadata.labels = None),
        ("a dead owner", |it| {
            let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "y"});
            it.metadata.owner_references = Some(vec![from_value(owner).unwrap()]);
        }),
    ];

    // A new policy counts from a moment later on.
    guard::until("the rule is in force", async || {
        let mut changed = read().await;
        // Another value each time: to write what is there is no change.
        let before = first(&mut changed).timeout_seconds.unwrap();
        first(&mut changed).timeout_seconds = Some(if before == 7 { 8 } else { 7 });
        account.replace_object(ObjectScope::Cluster, &changed).await.err()
    })
    .await;
    for (what, change) in changes {
        let mut changed = read().await;
        change(&mut changed);
        let why = account.replace_object(ObjectScope::Cluster, &changed).await.unwrap_err();
        assert!(why.to_string().contains("the webhook may"), "{what}: {why}");
    }
    let mut renewed = read().await;
    renew(&mut renewed);
    account.replace_object(ObjectScope::Cluster, &renewed).await.unwrap();
    // Nor may it remove its own bounds.
    let is_bound = |manifest: &&Value| {
        let kind = manifest["kind"].as_str().unwrap();
        kind.starts_with("ValidatingAdmission") || kind.starts_with("ClusterRole")
    };
    let bounds = needed.as_array().unwrap().iter().filter(is_bound);
    let bounds: Vec<ObjectId> = bounds
        .map(|it| ObjectId { namespace: None, ..ObjectId::from_manifest(it, "").unwrap() })
        .collect();
    assert_eq!(bounds.len(), 4);
    for id in bounds {
        account.delete_manifest(&id).await.unwrap_err();
    }
    // The administrator is not bound by the rule.
    let mut open: MutatingWebhookConfiguration =
        cluster.get_object(ObjectScope::Cluster, &name).await.unwrap().unwrap();
    first(&mut open).timeout_seconds = Some(9);
    cluster.replace_object(ObjectScope::Cluster, &open).await.unwrap();
}

fn first(configuration: &mut MutatingWebhookConfiguration) -> &mut MutatingWebhook {
    &mut configuration.webhooks.as_mut().unwrap()[0]
}

/// A client with the rights of another user, by impersonation.
async fn connect_as(here: &testkit::TestCluster, user: &str) -> Cluster {
    let text = std::fs::read_to_string(here.kubeconfig()).unwrap();
    let mut kubeconfig: Value = types::yaml::read_document("kubeconfig", &text).unwrap();
    kubeconfig["users"][0]["user"]["as"] = user.into();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
    let access = cluster::ClusterAccess { kubeconfig: Some(file.path().into()), context: None };
    Cluster::connect(&access).await.unwrap()
}

/// Makes the certificate look as if it expires soon, and waits for its renewal.
async fn renewed(cluster: &Cluster, namespace: &str, name: &str) {
    let scope = ObjectScope::Namespace(namespace);
    let mut secret: Secret = cluster.get_object(scope, name).await.unwrap().unwrap();
    let before = secret.data.clone().unwrap()["tls.crt"].clone();
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert("gantry.dev/certificate-ends".into(), "2026-01-01T00:00:00Z".into());
    cluster.replace_object(scope, &secret).await.unwrap();
    guard::until("the certificate is renewed", async || {
        let secret: Secret = cluster.get_object(scope, name).await.unwrap().unwrap();
        (secret.data.unwrap()["tls.crt"] != before).then_some(())
    })
    .await;
    let configuration: MutatingWebhookConfiguration =
        cluster.get_object(ObjectScope::Cluster, name).await.unwrap().unwrap();
    for webhook in configuration.webhooks.unwrap() {
        let bundle = String::from_utf8(webhook.client_config.ca_bundle.unwrap().0).unwrap();
        assert!(bundle.matches("BEGIN CERTIFICATE").count() >= 2, "the one before stays trusted");
    }
}

async fn label(cluster: &Cluster, name: &str, guard: &str) {
    let mut namespace: Namespace =
        cluster.get_object(ObjectScope::Cluster, name).await.unwrap().unwrap();
    namespace.metadata.labels.get_or_insert_default().insert(GUARD.into(), guard.into());
    cluster.replace_object(ObjectScope::Cluster, &namespace).await.unwrap();
}

async fn scale(cluster: &Cluster, namespace: &str, name: &str, replicas: i32) {
    let scope = ObjectScope::Namespace(namespace);
    let mut deployment: Deployment = cluster.get_object(scope, name).await.unwrap().unwrap();
    deployment.spec.as_mut().unwrap().replicas = Some(replicas);
    cluster.replace_object(scope, &deployment).await.unwrap();
    guard::until("its pods are gone", async || {
        let selector = format!("app.kubernetes.io/name={name}");
        let pods: Vec<Pod> = cluster.list_objects(scope, &selector).await.unwrap();
        pods.is_empty().then_some(())
    })
    .await;
}
