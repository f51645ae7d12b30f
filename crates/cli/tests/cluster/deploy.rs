//! Deploying to a real cluster: a first install, a run without changes, upgrades, failures, killed runs,
//! the order of releases, and removal.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, ServiceAccount,
};
use cluster::{Cluster, ObjectId, ObjectScope};
use serde_json::Value;

use crate::support::shop::{SECRET, Shop, get, is_there, records, releases};
use testkit::tools;

/// How often a deploy is killed.
const KILLS: u64 = 10;

fn chart(release: &str, namespace: &str, more: &str) -> String {
    format!("- {{chart: ./shop, release: {release}, namespace: {namespace}{more}}}\n")
}

#[tokio::test]
async fn a_release_runs_with_one_command_and_the_same_again_changes_nothing() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("deploy-once");
    let namespace = place.name();
    let shop = Shop::new(
        &chart("web", namespace, ", values: [v.yaml]"),
        &[("v.yaml", "greeting: hello\n")],
    );
    let cluster = shop.connect().await;

    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    assert_eq!(planned["releases"][0]["action"], "install");
    assert!(!is_there(&cluster, namespace).await, "a dry run makes nothing");

    let first = shop.deploy(&["--pod-security", "restricted"]).assert_success();
    assert_eq!(releases(&first.parse_json()), [("web".to_owned(), "install".to_owned(), 1)]);
    let pods: Vec<Pod> =
        cluster.list_objects(ObjectScope::Namespace(namespace), "app=web").await.unwrap();
    let image = pods[0].spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    assert!(
        image.starts_with(&format!("{}/ai/library/busybox", shop.world.site().host())),
        "{image}"
    );
    for account in ["default", "web"] {
        let account: ServiceAccount = get(&cluster, namespace, account).await.unwrap();
        assert_eq!(account.image_pull_secrets.unwrap()[0].name, SECRET);
    }
    let found: Namespace =
        cluster.get_object(ObjectScope::Cluster, namespace).await.unwrap().unwrap();
    assert_eq!(found.metadata.labels.unwrap()["pod-security.kubernetes.io/enforce"], "restricted");

    let password: Secret = get(&cluster, namespace, "web-password").await.unwrap();
    let again = shop.deploy(&[]).assert_success();
    assert_eq!(
        releases(&again.parse_json()),
        [("web".to_owned(), "none".to_owned(), 1)],
        "{}",
        again.stderr
    );
    let kept: Secret = get(&cluster, namespace, "web-password").await.unwrap();
    assert_eq!(password.data, kept.data, "a made-up password is no reason for an upgrade");

    shop.inside.write_file("v.yaml", "greeting: good day\n");
    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    let changes = planned["releases"][0]["changes"].as_array().unwrap();
    let told: Vec<_> = changes.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(told, ["Deployment", "ConfigMap", "Secret"], "{planned:#}");
    let diff = changes[0]["diff"].as_str().unwrap();
    assert!(diff.contains("-        greeting: hello\n+        greeting: good day"), "{diff}");
    assert_eq!(records(&cluster, namespace, "web").await, ["deployed"]);
    let upgraded = shop.deploy(&[]).assert_success().parse_json();
    assert_eq!(releases(&upgraded), [("web".to_owned(), "upgrade".to_owned(), 2)]);

    cluster.delete_object::<Deployment>(ObjectScope::Namespace(namespace), "web").await.unwrap();
    let mended = shop.deploy(&[]).assert_success().parse_json();
    assert_eq!(
        releases(&mended),
        [("web".to_owned(), "upgrade".to_owned(), 3)],
        "what was deleted comes back"
    );

    let gone = shop.undeploy(&[]).assert_success().parse_json();
    assert!(
        gone["removals"][0]["keptObjects"][0].as_str().unwrap().contains("web-data"),
        "{gone:#}"
    );
    assert!(get::<PersistentVolumeClaim>(&cluster, namespace, "web-data").await.is_some());
    assert!(get::<Secret>(&cluster, namespace, SECRET).await.is_none());
    let account: ServiceAccount = get(&cluster, namespace, "default").await.unwrap();
    assert!(account.image_pull_secrets.unwrap_or_default().is_empty());
    shop.deploy(&[]).assert_success();
    shop.undeploy(&["--delete-claims", "--delete-namespace"]).assert_success();
    assert!(!is_there(&cluster, namespace).await);
}

#[tokio::test]
async fn a_deploy_that_is_killed_at_any_time_goes_on() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("deploy-kill");
    let namespace = place.name();
    let shop =
        Shop::new(&chart("web", namespace, ", values: [v.yaml]"), &[("v.yaml", "greeting: a\n")]);
    let cluster = shop.connect().await;
    let random = RandomState::new();
    shop.deploy(&[]).assert_success();
    shop.undeploy(&["--delete-claims"]).assert_success();
    // How long a deployment takes once the images are on the node.
    let started = Instant::now();
    shop.deploy(&[]).assert_success();
    let whole = u64::try_from(started.elapsed().as_millis()).unwrap();
    shop.undeploy(&["--delete-claims"]).assert_success();

    for kill in 0..KILLS {
        // The first kills hit an install, later ones also upgrades.
        if kill > KILLS / 2 {
            shop.inside.write_file("v.yaml", &format!("greeting: round {kill}\n"));
        }
        let instant = random.hash_one(kill) % whole;
        let started = Instant::now();
        let mut running = shop.inside.start(["deploy", "--site", "site.yaml"]);
        if kill == 0 {
            // Makes sure that also the state of a killed first install occurs.
            let half = ["pending-install"];
            while running.is_running() && records(&cluster, namespace, "web").await != half {}
        } else {
            while running.is_running() && started.elapsed() < Duration::from_millis(instant) {
                std::thread::yield_now();
            }
        }
        running.kill();
    }
    let done = shop.deploy(&[]).assert_success();

    assert_eq!(
        records(&cluster, namespace, "web").await.last().unwrap(),
        "deployed",
        "{}",
        done.stderr
    );
    let map: ConfigMap = get(&cluster, namespace, "web").await.unwrap();
    assert_eq!(map.data.unwrap()["index.html"], format!("round {}", KILLS - 1));
    assert_eq!(releases(&shop.deploy(&[]).assert_success().parse_json())[0].1, "none");
    shop.undeploy(&["--delete-claims", "--delete-namespace"]).assert_success();
}

#[tokio::test]
async fn what_does_not_come_up_says_why_and_is_rolled_back_when_asked() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("deploy-broken");
    let namespace = place.name();
    let charts = chart("web", namespace, ", values: [v.yaml]");
    let shop = Shop::new(&charts, &[("v.yaml", "greeting: good\n")]);
    let cluster = shop.connect().await;
    let wrong = "storageClass: nowhere\n";
    shop.inside.write_file("v.yaml", wrong);
    let short = ["--timeout", "25s"];

    let error = shop.deploy(&short).assert_exit_code(1).stderr;
    assert!(error.contains("the cluster has no storage class nowhere"), "{error}");
    assert!(error.contains("local-path"), "{error}");
    let claim = "web-data";
    shop.undeploy(&["--delete-claims"]).assert_success();
    assert!(get::<PersistentVolumeClaim>(&cluster, namespace, claim).await.is_none());

    shop.inside.write_file("v.yaml", "greeting: good\n");
    shop.deploy(&[]).assert_success();
    // Locked, but not loaded into the registry.
    shop.carry(&charts, &[("v.yaml", "image: {repository: library/nginx, tag: \"1.22\"}\n")]);
    let remove =
        shop.world.site().storage().join("docker/registry/v2/repositories/ai/library/nginx");
    let _ = std::fs::remove_dir_all(remove);
    let error = shop.deploy(&["--timeout", "25s", "--rollback"]).assert_exit_code(1).stderr;
    assert!(error.contains("nginx:1.22") && error.contains("cannot pull"), "{error}");
    assert_eq!(records(&cluster, namespace, "web").await.last().unwrap(), "deployed");
    let map: Deployment = get(&cluster, namespace, "web").await.unwrap();
    let image = map.spec.unwrap().template.spec.unwrap().containers[0].image.clone().unwrap();
    assert!(image.contains("busybox"), "the revision before is back: {image}");

    shop.carry(&charts, &[("v.yaml", "probe: /none\n")]);
    let error = shop.deploy(&short).assert_exit_code(1).stderr;
    assert!(error.contains("404"), "the probe's own words: {error}");
    assert!(error.contains("gantry undeploy"), "{error}");

    shop.inside.write_file("v.yaml", "image: {tag: \"9\"}\n");
    let error = shop.deploy(&short).assert_exit_code(3).stderr;
    assert!(error.contains("busybox:9"), "what is not locked is not deployed: {error}");
    shop.undeploy(&["--delete-claims", "--delete-namespace"]).assert_success();
}

#[tokio::test]
async fn what_helm_cannot_render_is_refused_in_its_words_and_nothing_is_made() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("deploy-input");
    let namespace = place.name();
    let shop = Shop::new(&chart("web", namespace, ""), &[]);
    let cluster = shop.connect().await;
    let metadata = "apiVersion: v2\nname: strict\nversion: 1.0.0\n";
    let newer = format!("{metadata}kubeVersion: '>=1.99.0-0'\n");
    let template = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {site: {{ required \"site is required\" .Values.site }}}\n";
    let entry = |more: &str| {
        format!(
            "- {{chart: ./strict, release: strict, namespace: {namespace}, values: [v.yaml]{more}}}\n"
        )
    };
    for (metadata, more, values, parts) in [
        (
            metadata,
            "",
            "{}\n",
            ["strict/templates/a.yaml:4", "site is required", "give the values"],
        ),
        (metadata, "", "- site\n", ["v.yaml", "a values file", "must be a map"]),
        (metadata, "", "site: [\n", ["v.yaml", "line", "yaml"]),
        (
            &newer,
            ", kubeVersion: v1.99.0",
            "site: a\n",
            [">=1.99.0-0", "this cluster, which has", "upgrade the cluster"],
        ),
    ] {
        for user in [&shop.outside, &shop.inside] {
            user.write_file("strict/Chart.yaml", metadata);
            user.write_file("strict/templates/a.yaml", template);
        }
        shop.carry(&entry(more), &[("v.yaml", "site: a\n")]);
        shop.inside.write_file("v.yaml", values);
        for run in [&["--dry-run"][..], &[]] {
            let refused = shop.deploy(run).assert_exit_code(2);
            for part in parts {
                assert!(refused.stderr.contains(part), "no {part:?} in {}", refused.stderr);
            }
            assert!(refused.stdout.is_empty(), "{}", refused.stdout);
        }
    }
    let with_redis = format!(
        "{metadata}dependencies: [{{name: redis, version: 1.0.0, repository: \"https://x.example\"}}]\n"
    );
    shop.inside.write_file("strict/Chart.yaml", &with_redis);
    let missing = shop.deploy(&[]).assert_exit_code(2).stderr;
    assert!(missing.contains("redis") && missing.contains("helm dependency build"), "{missing}");
    assert!(!is_there(&cluster, namespace).await, "a refusal makes nothing");
}

#[tokio::test]
async fn releases_come_in_the_order_of_their_needs_and_only_where_one_may() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("deploy-order");
    let namespace = place.name();
    let charts = chart("app", namespace, ", needs: [db], values: [app.yaml]")
        + &chart("db", namespace, ", values: [v.yaml]");
    let values = [("v.yaml", "probe: /none\n"), ("app.yaml", "literal: true\n")];
    let mut shop = Shop::new(&charts, &values);
    // An image that no chart value moves, and helm 4, which takes post-renderers as plugins.
    shop.inside = shop.inside.env("GANTRY_HELM", tools::tool_path("helm4"));
    let cluster = shop.connect().await;
    let post = ["--leftovers", "post-render"];

    let kubeconfig = std::fs::read_to_string(shop.here.kubeconfig()).unwrap();
    let restricted = shop.inside.folder().join("restricted.kubeconfig");
    std::fs::write(&restricted, kubeconfig.replace("user: {", "user: {as: nobody-in-particular, "))
        .unwrap();
    let restricted = restricted.display().to_string();
    let error =
        shop.deploy(&["--kubeconfig", &restricted, post[0], post[1]]).assert_exit_code(2).stderr;
    assert!(error.contains("missing for deploying") && error.contains("deployments"), "{error}");
    let error = shop.deploy(&["--context", "elsewhere"]).assert_exit_code(2).stderr;
    assert!(error.contains("no context"), "{error}");
    let site = shop.inside.read_file("site.yaml");
    shop.inside.write_file("site.yaml", &site.replace("context: gantry\n", ""));
    let error = shop.deploy(&[]).assert_exit_code(2).stderr;
    assert!(error.contains("--context gantry"), "{error}");
    shop.inside.write_file("site.yaml", &site);
    let values = shop.inside.read_file("v.yaml");
    std::fs::remove_file(shop.inside.folder().join("v.yaml")).unwrap();
    let error = shop.deploy(&[]).assert_exit_code(2).stderr;
    assert!(error.contains("v.yaml does not exist"), "{error}");
    shop.inside.write_file("v.yaml", &values);
    assert!(!is_there(&cluster, namespace).await, "nothing was written so far");

    let error = shop.deploy(&[]).assert_exit_code(3).stderr;
    assert!(error.contains("dns:2.90") && error.contains("--leftovers post-render"), "{error}");

    shop.deploy(&[post[0], post[1], "--timeout", "20s"]).assert_exit_code(1);
    assert!(records(&cluster, namespace, "app").await.is_empty(), "what it needs is not up");
    shop.inside.write_file("v.yaml", "probe: /index.html\n");
    let done: Value = shop.deploy(&post).assert_success().parse_json();
    let order: Vec<_> =
        releases(&done).into_iter().map(|(name, action, _)| (name, action)).collect();
    let expected = [("db", "upgrade"), ("app", "install")];
    assert_eq!(order, expected.map(|(name, action)| (name.to_owned(), action.to_owned())));

    let app: Deployment = get(&cluster, namespace, "app").await.unwrap();
    let literal = app.spec.unwrap().template.spec.unwrap().init_containers.unwrap();
    assert!(literal[0].image.as_deref().unwrap().contains("/ai/gantry-examples/dns:2.90"));
    let again = shop.deploy(&post).assert_success().parse_json();
    assert!(releases(&again).iter().all(|(_, action, _)| action == "none"), "{again:#}");

    shop.undeploy(&["app", "--delete-claims"]).assert_success();
    assert!(get::<Secret>(&cluster, namespace, SECRET).await.is_some(), "db still needs it");
    let error = shop.undeploy(&["stranger"]).assert_success().parse_json();
    assert_eq!(error["notInstalled"][0], "stranger");
    shop.undeploy(&["--delete-claims", "--delete-namespace"]).assert_success();
    assert!(!is_there(&cluster, namespace).await);
}

/// A chart whose definition helm installs before it renders. Only then a template sees its API version.
const LATE: [(&str, &str); 4] = [
    ("Chart.yaml", "apiVersion: v2\nname: late\nversion: 1.0.0\n"),
    ("crds/parcel.yaml", PARCELS),
    ("templates/parcel.yaml", PARCEL),
    (
        "templates/pod.yaml",
        "{{- if and .Values.pod (.Capabilities.APIVersions.Has \"deploy.gantry.test/v1\") }}\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: late}\n\
         spec: {containers: [{name: late, image: 'docker.io/library/late:1'}]}\n{{- end }}\n",
    ),
];
/// The same definition among the templates, where helm cannot install it together with its objects.
const TOGETHER: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: together\nversion: 1.0.0\n"),
    ("templates/definition.yaml", PARCELS),
    ("templates/parcel.yaml", PARCEL),
];
const PARCELS: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
    metadata: {name: parcels.deploy.gantry.test}\n\
    spec: {group: deploy.gantry.test, scope: Namespaced, names: {kind: Parcel, plural: parcels},\n\
    \x20 versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n";
const PARCEL: &str = "apiVersion: deploy.gantry.test/v1\nkind: Parcel\nmetadata: {name: parcel}\n";

/// Deletes a definition, and waits until its kind is gone.
async fn remove_definition(cluster: &Cluster, definition: &ObjectId) {
    cluster.delete_manifest(definition).await.unwrap();
    while cluster.read_manifest(definition).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_first_install_is_proven_with_the_definitions_that_its_chart_brings() {
    let place = testkit::TestCluster::from_environment().reserve_namespace("deploy-crds");
    let namespace = place.name();
    let shop = Shop::new(&chart("web", namespace, ""), &[]);
    let cluster = shop.connect().await;
    let definition = ObjectId {
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        namespace: None,
        name: "parcels.deploy.gantry.test".to_owned(),
    };
    remove_definition(&cluster, &definition).await;
    for (folder, files) in [("late", LATE.as_slice()), ("together", &TOGETHER)] {
        for (name, text) in files {
            shop.outside.write_file(&format!("{folder}/{name}"), text);
            shop.inside.write_file(&format!("{folder}/{name}"), text);
        }
    }
    let entry = |name: &str, more: &str| {
        format!("- {{chart: ./{name}, release: {name}, namespace: {namespace}{more}}}\n")
    };

    shop.carry(&entry("together", ""), &[]);
    let error = shop.deploy(&[]).assert_exit_code(1).stderr;
    assert!(error.contains("helm cannot render it against the cluster"), "{error}");
    assert!(records(&cluster, namespace, "together").await.is_empty(), "helm was not run");

    let values = ", values: [late.yaml]";
    shop.carry(&entry("late", values), &[("late.yaml", "pod: true\n")]);
    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    let notes = planned["releases"][0]["notes"].to_string();
    assert!(notes.contains("does not have all kinds"), "{notes}");
    assert!(cluster.read_manifest(&definition).await.unwrap().is_none(), "a dry run makes nothing");
    let refused = shop.deploy(&[]).assert_exit_code(3).stderr;
    assert!(
        refused.contains("docker.io/library/late:1"),
        "the pod is in no other render: {refused}"
    );
    assert!(records(&cluster, namespace, "late").await.is_empty(), "nothing was installed");

    remove_definition(&cluster, &definition).await;
    shop.carry(&entry("late", values), &[("late.yaml", "pod: false\n")]);
    let done = shop.deploy(&[]).assert_success();
    assert!(done.stderr.contains("parcels.deploy.gantry.test created"), "{}", done.stderr);
    assert_eq!(records(&cluster, namespace, "late").await, ["deployed"]);

    shop.undeploy(&["--delete-namespace"]).assert_success();
    remove_definition(&cluster, &definition).await;
}
