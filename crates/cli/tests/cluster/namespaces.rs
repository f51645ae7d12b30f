//! The pull secret, the CA and the policies of the site in namespaces beside those of releases: written by
//! deploy, kept by the operator as namespaces appear, and as manifests. And what is wrong with a namespace
//! or a claim is told in seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::objects::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use cluster::objects::api::networking::v1::NetworkPolicy;
use cluster::objects::serde_json::{from_value, json};
use cluster::{ApplyEffect, ApplyMode, Cluster, ClusterAccess, Error, ObjectScope};
use testkit::TestAuthority;

use crate::support::guard::{self, Gone, Ground, pod, runs};
use crate::support::seeding::Site;
use crate::support::shop::{SECRET, Shop, get, is_there};

/// The label by which the namespaces of these tests are selected; its value is a test's own.
const LABEL: &str = "gantry-test/site";

async fn label(cluster: &Cluster, namespace: &str, value: &str) {
    let object: Namespace =
        from_value(json!({"metadata": {"name": namespace, "labels": {LABEL: value}}})).unwrap();
    let mut found: Namespace =
        cluster.get_object(ObjectScope::Cluster, namespace).await.unwrap().unwrap();
    found.metadata.labels.get_or_insert_default().extend(object.metadata.labels.unwrap());
    cluster.replace_object(ObjectScope::Cluster, &found).await.unwrap();
}

async fn gives_secret(cluster: &Cluster, namespace: &str, secret: &str) -> bool {
    let account: Option<ServiceAccount> = get(cluster, namespace, "default").await;
    let secrets = account.and_then(|account| account.image_pull_secrets).unwrap_or_default();
    secrets.iter().any(|own| own.name == secret)
}

#[tokio::test]
async fn a_deploy_gives_the_namespaces_of_the_site_what_its_own_gets_and_takes_it_back() {
    let here = testkit::TestCluster::from_environment();
    let place = here.reserve_namespace("namespaces-own");
    let (named, labelled) =
        (here.reserve_namespace("namespaces-named"), here.create_namespace("namespaces-labelled"));
    let shop = Shop::new(
        &format!("- {{chart: ./shop, release: web, namespace: {}}}\n", place.name()),
        &[],
    );
    let cluster = shop.connect().await;
    label(&cluster, labelled.name(), place.name()).await;
    let ca = std::fs::read_to_string(TestAuthority::new().ca_file()).unwrap();
    shop.inside.write_file("ca.pem", &ca);
    let site = shop
        .inside
        .read_file("site.yaml")
        .replace("plainHttp: true", "plainHttp: true, ca: ca.pem");
    shop.inside.write_file(
        "site.yaml",
        &format!(
            "{site}caObjects: [{{configMap: corp-ca, key: tls-ca.pem}}]\nnamespaces:\n  names: [{}]\n  \
             selector: {{matchLabels: {{{LABEL}: {}}}}}\n  egress: {{allow: [10.99.0.9:443]}}\n",
            named.name(),
            place.name()
        ),
    );

    let planned = shop.deploy(&["--dry-run"]).assert_success().parse_json();
    assert!(planned["namespaceObjects"].to_string().contains("corp-ca"), "{planned:#}");
    assert!(!is_there(&cluster, named.name()).await, "a dry run makes nothing");
    shop.deploy(&[]).assert_success();

    for namespace in [named.name(), labelled.name()] {
        let secret: Secret = get(&cluster, namespace, SECRET).await.unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
        let map: ConfigMap = get(&cluster, namespace, "corp-ca").await.unwrap();
        assert_eq!(map.data.unwrap()["tls-ca.pem"], ca);
        assert!(get::<ConfigMap>(&cluster, namespace, "gantry-ca").await.is_some());
        assert!(gives_secret(&cluster, namespace, SECRET).await, "{namespace}");
        let deny: Option<NetworkPolicy> = get(&cluster, namespace, "gantry-deny-egress").await;
        assert!(deny.is_some(), "{namespace}");
    }
    assert!(get::<ConfigMap>(&cluster, place.name(), "corp-ca").await.is_some());
    // A pod that names no pull secret pulls from a registry that requires a login.
    let image = format!("{}/ai/library/busybox:1.35", shop.world.site().host());
    runs(&cluster, labelled.name(), &pod("pulls", &image)).await;
    cluster.remove_pod(labelled.name(), "pulls").await.unwrap();

    let again = shop.deploy(&[]).assert_success().parse_json();
    let objects = again["namespaceObjects"].as_array().unwrap();
    let is_quiet =
        |one: &serde_json::Value| ["same", "kept"].contains(&one["outcome"].as_str().unwrap());
    assert!(objects.iter().all(is_quiet), "{again:#}");

    // The same as manifests: applied over what deploy wrote, nothing changes.
    let rendered = shop.inside.run([
        "render",
        "namespace",
        named.name(),
        "--site",
        "site.yaml",
        "--output",
        "json",
    ]);
    let rendered = rendered.assert_success().parse_json();
    for manifest in rendered["manifests"].as_array().unwrap() {
        if ["Namespace", "ServiceAccount"].contains(&manifest["kind"].as_str().unwrap()) {
            continue; // Deploy owns no field of these, or another manager does.
        }
        let applied =
            cluster.apply_manifest(manifest, named.name(), ApplyMode::DryRun).await.unwrap();
        assert_eq!(applied.applied, ApplyEffect::Same, "{manifest:#}");
    }

    let removed = shop.undeploy(&["--delete-claims", "--clean-namespaces"]).assert_success();
    for namespace in [named.name(), labelled.name()] {
        assert!(get::<Secret>(&cluster, namespace, SECRET).await.is_none(), "{}", removed.stdout);
        assert!(get::<ConfigMap>(&cluster, namespace, "corp-ca").await.is_none());
        assert!(get::<NetworkPolicy>(&cluster, namespace, "gantry-deny-egress").await.is_none());
        assert!(!gives_secret(&cluster, namespace, SECRET).await);
    }
    shop.undeploy(&["--delete-namespace"]).assert_success();
}

#[tokio::test]
async fn namespaces_that_appear_get_it_from_the_operator_which_reaches_no_others() {
    let ground = Ground::new();
    let cluster = ground.here.connect().await;
    let (own, other) =
        (ground.here.create_namespace("keeper"), ground.here.create_namespace("keeper-other"));
    let (home, name) = (own.name(), format!("gantry-{}", own.name()));
    let site = ground
        .gantry
        .read_file("site.yaml")
        .replace("plainHttp: true", "plainHttp: true, pullSecret: site, ca: ca.pem");
    let ca = std::fs::read_to_string(TestAuthority::new().ca_file()).unwrap();
    ground.gantry.write_file("ca.pem", &ca);
    ground.gantry.write_file(
        "site.yaml",
        &format!(
            "{site}namespaces: {{selector: {{matchLabels: {{{LABEL}: {home}}}}}, egress: {{}}}}\n"
        ),
    );
    let config =
        json!({"auths": {ground.world.site().host(): {"username": "me", "password": "old"}}});
    let secret: Secret = from_value(json!({"metadata": {"name": "site"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config.to_string()}}))
    .unwrap();
    cluster.create_object(ObjectScope::Namespace(home), &secret).await.unwrap();
    let arguments = [
        "webhook",
        "manifests",
        "--site",
        "site.yaml",
        "--receipt",
        "receipt.json",
        "--namespace",
        home,
        "--name",
        &name,
        "--only",
        other.name(),
        "--output",
        "json",
    ];
    let written = ground.gantry.run(arguments).assert_success().parse_json();
    let _gone = Gone::new(&ground, &written["manifests"]);
    ground.gantry.run(arguments.iter().chain(&["--apply"])).assert_success();

    // One that is made after the operator runs, and one that gets the label later.
    let late = ground.here.create_namespace("keeper-late");
    label(&cluster, late.name(), home).await;
    guard::until("the new namespace has everything", async || {
        let has_secret = get::<Secret>(&cluster, late.name(), "site").await.is_some();
        let map: Option<ConfigMap> = get(&cluster, late.name(), "gantry-ca").await;
        let deny: Option<NetworkPolicy> = get(&cluster, late.name(), "gantry-deny-egress").await;
        let has_map = map.and_then(|map| map.data).is_some_and(|data| data["ca.crt"] == ca);
        let has_account = gives_secret(&cluster, late.name(), "site").await;
        (has_secret && has_map && deny.is_some() && has_account).then_some(())
    })
    .await;
    assert!(get::<Secret>(&cluster, other.name(), "site").await.is_none());

    // What somebody deletes comes back, and a new password arrives, without an event of the namespace.
    let scope = ObjectScope::Namespace(late.name());
    cluster.delete_object::<ConfigMap>(scope, "gantry-ca").await.unwrap();
    let mut source: Secret = get(&cluster, home, "site").await.unwrap();
    let config =
        json!({"auths": {ground.world.site().host(): {"username": "me", "password": "new"}}});
    source.data = None;
    source.string_data = Some(BTreeMap::from([(".dockerconfigjson".into(), config.to_string())]));
    cluster.replace_object(ObjectScope::Namespace(home), &source).await.unwrap();
    guard::until("it is mended", async || {
        let map: Option<ConfigMap> = get(&cluster, late.name(), "gantry-ca").await;
        let secret: Secret = get(&cluster, late.name(), "site").await.unwrap();
        let data = String::from_utf8(secret.data.unwrap()[".dockerconfigjson"].0.clone()).unwrap();
        (map.is_some() && data.contains("\"new\"")).then_some(())
    })
    .await;

    // Its rights end where the site's namespaces end.
    let keeper = as_account(&ground, home, &name).await;
    let map = |name: &str| -> ConfigMap {
        from_value(json!({"metadata": {"name": name}, "data": {"ca.crt": ca}})).unwrap()
    };
    let refused =
        keeper.apply_object(ObjectScope::Namespace(other.name()), &map("gantry-ca")).await;
    assert!(
        matches!(&refused, Err(Error::Refused { reason, .. }) if reason.contains("site.yaml selects")),
        "{refused:?}"
    );
    let forbidden = keeper.apply_object(scope, &map("anything")).await;
    assert!(matches!(forbidden, Err(Error::Forbidden { .. })), "{forbidden:?}");
    let listed = keeper.list_objects::<Secret>(scope, "").await;
    assert!(matches!(listed, Err(Error::Forbidden { .. })), "{listed:?}");
}

/// A client that acts as this service account.
async fn as_account(ground: &Ground, namespace: &str, name: &str) -> Cluster {
    let kubeconfig = std::fs::read_to_string(ground.here.kubeconfig()).unwrap();
    let user = format!("user: {{as: 'system:serviceaccount:{namespace}:{name}', ");
    let file = ground.gantry.folder().join("keeper.kubeconfig");
    std::fs::write(&file, kubeconfig.replace("user: {", &user)).unwrap();
    let access = ClusterAccess { kubeconfig: Some(file), ..ClusterAccess::default() };
    Cluster::connect(&access).await.unwrap()
}

#[test]
fn a_claim_that_no_provisioner_can_bind_ends_a_push_with_the_provisioners_words() {
    let site = Site::new("namespaces-claim");
    let started = Instant::now();
    let arguments = site.push(&site.claim("shared"), &["--create", "--access-mode", "RWX"]);
    let error = site.gantry.run(arguments).assert_exit_code(1).stderr;
    let took = started.elapsed();
    assert!(error.contains("it waits for the claim shared"), "{error}");
    assert!(error.contains("ReadWriteOnce"), "the provisioner's words: {error}");
    // A fifth of the time that it waits for a pod otherwise; the machine may be slow.
    assert!(took < Duration::from_secs(60), "{took:?}: {error}");
    assert_eq!(site.seeders(), [""; 0]);
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted_is_told_as_that_and_not_as_a_missing_right() {
    let here = testkit::TestCluster::from_environment();
    let place = here.create_namespace("namespaces-ending");
    let shop = Shop::new(
        &format!("- {{chart: ./shop, release: web, namespace: {}}}\n", place.name()),
        &[],
    );
    let cluster = shop.connect().await;
    // A finalizer keeps the namespace in the state in which it is being deleted.
    let mut holder = pod("holder", "none.internal/x:1");
    holder.metadata.finalizers = Some(vec!["gantry-test/holder".to_owned()]);
    let scope = ObjectScope::Namespace(place.name());
    cluster.create_object(scope, &holder).await.unwrap();
    cluster.delete_object::<Namespace>(ObjectScope::Cluster, place.name()).await.unwrap();
    guard::until("it is being deleted", async || {
        (!is_there(&cluster, place.name()).await).then_some(())
    })
    .await;

    let deployed = shop.deploy(&[]).assert_exit_code(1).stderr;
    let made = cluster.create_object(scope, &pod("late", "none.internal/x:1")).await;
    let checked =
        shop.inside.run(["check", "--site", "site.yaml", "--only", "rights"]).assert_exit_code(1);

    let mut holder: Pod = get(&cluster, place.name(), "holder").await.unwrap();
    holder.metadata.finalizers = None;
    cluster.replace_object(scope, &holder).await.unwrap();
    for text in [deployed, made.unwrap_err().to_string(), checked.stdout] {
        assert!(text.contains(&format!("namespace {} is being deleted", place.name())), "{text}");
        assert!(!text.contains("administrator"), "{text}");
    }
}
