//! Runs the checks in a real cluster: every kind of failure is found, with its reason and next
//! step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::{PersistentVolumeClaim, Secret, Service, ServiceAccount};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{ClusterAccess, ObjectScope, TypedObject};
use gantry_deploy::check::{
    CheckFinding, CheckName, CheckReport, CheckSubject, CheckedRelease, FindingState,
    ReleaseExpectation, SiteRegistry, run_checks,
};
use gantry_deploy::inference::recognise::InferenceRules;
use testkit::{TestCluster, TestImages, TestLogin, TestRegistry, workloads};
use types::input::Input;
use types::lock::{Lock, LockedImage, LockedManifest, VERSION};
use types::naming::NamingRule;
use types::{Digest, Platform};

/// The longest wait for a pod to reach its final state, on a machine that other programs use as
/// well.
const TIMEOUT: Duration = Duration::from_mins(5);

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one release, broken in one way after the other")]
async fn a_healthy_release_is_well_and_each_thing_that_is_wrong_is_told_apart() {
    let here = TestCluster::from_environment();
    let registry = TestRegistry::builder().address(here.host()).start();
    let images = TestImages::cluster().select(&[workloads::QUIET, workloads::CURIOUS]);
    images.place_in_storage(registry.storage());
    let _trust = here.trust_registry(&registry);
    let space = here.create_namespace("check-wrong");
    let cluster = here.connect().await;
    let scope = ObjectScope::Namespace(space.name());
    let quiet = format!("{}/example/quiet:1.0", registry.host());
    let curious = format!("{}/example/curious:1.0", registry.host());
    let asks = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2});

    let serve = "mkdir -p /tmp/w && echo all is well > /tmp/w/index.html && exec busybox httpd -f -p 8080 -h /tmp/w";
    apply::<Deployment>(&cluster, scope, deployment("web", "good", &quiet, serve, &asks)).await;
    let service = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    apply::<Service>(&cluster, scope, service).await;
    let none = Value::Null;
    for (name, image, script, probe) in [
        ("other", curious.as_str(), "sleep 600", &none),
        ("foreign", &here.image_name("busybox"), "sleep 600", &none),
        ("probe", &quiet, "echo I never listen; sleep 600", &asks),
        ("crash", &quiet, "echo no model in /models; exit 3", &none),
    ] {
        apply::<Deployment>(&cluster, scope, deployment(name, "bad", image, script, probe)).await;
    }
    let claim = json!({"metadata": {"name": "lost"}, "spec": {"storageClassName": "nowhere",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    apply::<PersistentVolumeClaim>(&cluster, scope, claim).await;
    let mut mounting = deployment("mounting", "bad", &quiet, "sleep 600", &none);
    mounting["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "d", "persistentVolumeClaim": {"claimName": "lost"}}]);
    apply::<Deployment>(&cluster, scope, mounting).await;

    let mut subject = subject(&here, &registry, &images, ("good", space.name())).await;
    let lock = subject.lock.as_mut().unwrap();
    // Simulates that somebody pushed another image to the tag, and that one image was never loaded.
    let is_curious = |image: &&mut LockedImage| image.reference.to_string().contains("curious");
    let pushed_over = lock.images.iter_mut().find(is_curious).unwrap();
    pushed_over.digest = Digest::Sha256([7; 32]);
    pushed_over.manifests[0].digest = pushed_over.digest;
    let mut absent = lock.images[0].clone();
    absent.reference = "ghcr.io/example/absent:1".parse().unwrap();
    lock.images.push(absent);

    subject.checks = checks(&format!(
        "- {{name: page, kind: http, release: good, service: web, expect: {{contains: all is well}}}}\n\
         - {{name: port, kind: tcp, namespace: {}, service: web, port: 80}}\n",
        space.name()
    ));
    let after = [CheckName::Workloads, CheckName::Claims, CheckName::Pods, CheckName::Inference];
    let good = until(&subject, &after, CheckReport::has_passed).await;
    has(&good, CheckName::Workloads, FindingState::Ok, &["Deployment web", "1 of 1 ready"]);
    has(&good, CheckName::Pods, FindingState::Ok, &["1 of 1 are ready"]);
    has(&good, CheckName::Inference, FindingState::Ok, &["page", "200 with", "first answer after"]);
    has(&good, CheckName::Inference, FindingState::Ok, &["port", "accepts connections"]);

    subject.releases = vec![release("bad", space.name())];
    subject.checks = checks(
        "- {name: text, kind: http, release: bad, service: web, expect: {contains: elsewhere}}\n",
    );
    let words =
        ["I never listen", "probe failed", "no model in /models", "keeps ending", "class nowhere"];
    let bad = until(&subject, &CheckName::ALL[11..], |report| {
        words.iter().all(|word| report.findings.iter().any(|one| one.why.contains(word)))
    })
    .await;
    has(&bad, CheckName::Workloads, FindingState::Failed, &["Deployment crash", "0 of 1 ready"]);
    has(
        &bad,
        CheckName::Pods,
        FindingState::Failed,
        &["Pod probe-", "probe failed", "I never listen"],
    );
    has(&bad, CheckName::Pods, FindingState::Failed, &["Pod crash-", "no model in /models"]);
    has(&bad, CheckName::Pods, FindingState::Failed, &["Pod mounting-", "PersistentVolumeClaim"]);
    has(&bad, CheckName::Claims, FindingState::Failed, &["claim lost", "nowhere"]);
    has(&bad, CheckName::Running, FindingState::Failed, &["Pod foreign-", "from outside the site"]);
    let digest = has(
        &bad,
        CheckName::Running,
        FindingState::Failed,
        &["Pod other-", "locked digest is sha256:0707"],
    );
    assert!(digest.is_digest_wrong && bad.is_digest_wrong());
    has(&bad, CheckName::Running, FindingState::Ok, &["containers run a locked image"]);
    has(
        &bad,
        CheckName::Inference,
        FindingState::Failed,
        &["text", "the answer does not contain \"elsewhere\""],
    );

    let before = run_checks(&subject, &CheckName::ALL[..10]).await;
    has(&before, CheckName::Api, FindingState::Ok, &["Kubernetes v1."]);
    has(&before, CheckName::Rights, FindingState::Ok, &["all "]);
    has(&before, CheckName::Nodes, FindingState::Ok, &["Node node1", "ready"]);
    has(&before, CheckName::Storage, FindingState::Ok, &["StorageClass local-path of site.yaml"]);
    has(&before, CheckName::Registry, FindingState::Ok, &["it answers"]);
    has(&before, CheckName::PullSecret, FindingState::Warning, &["Secret site", "does not exist"]);
    has(&before, CheckName::Images, FindingState::Ok, &["1 of 3"]);
    has(
        &before,
        CheckName::Images,
        FindingState::Failed,
        &["example/absent:1", "does not have it"],
    );
    let pushed =
        has(&before, CheckName::Images, FindingState::Failed, &["curious:1.0", "under this name"]);
    assert!(pushed.is_digest_wrong);
    has(&before, CheckName::NodePull, FindingState::Ok, &["Node node1", "it has pulled"]);
    has(&before, CheckName::Dns, FindingState::Skipped, &["tools: [gantry]"]);
}

#[tokio::test]
async fn a_registry_that_nodes_cannot_use_is_told_apart_by_what_is_wrong() {
    let here = TestCluster::from_environment();
    let images = TestImages::cluster().select(&[workloads::QUIET]);
    let space = here.create_namespace("check-trust");
    let names = [CheckName::Registry, CheckName::PullSecret, CheckName::NodePull];
    let pulls = async |registry: &TestRegistry, prefix: Option<&str>| {
        let mut subject = subject(&here, registry, &images, ("none", space.name())).await;
        if let (Some(prefix), Some(registry)) = (prefix, &mut subject.registry) {
            registry.prefix = prefix.parse().unwrap();
        }
        run_checks(&subject, &names).await
    };

    let tls = TestRegistry::builder().address(here.host()).tls().start();
    images.place_in_storage(tls.storage());
    let untrusted = pulls(&tls, None).await;
    has(&untrusted, CheckName::NodePull, FindingState::Failed, &["does not trust", "x509"]);
    has(&untrusted, CheckName::Registry, FindingState::Ok, &["it answers"]);

    let plain = TestRegistry::builder().address(here.host()).start();
    images.place_in_storage(plain.storage());
    let http = pulls(&plain, None).await;
    has(
        &http,
        CheckName::NodePull,
        FindingState::Failed,
        &["speaks http, but the node uses https"],
    );
    let nowhere = pulls(&plain, Some("registry.nowhere.invalid:5000")).await;
    has(&nowhere, CheckName::NodePull, FindingState::Failed, &["cannot resolve"]);
    has(&nowhere, CheckName::Registry, FindingState::Failed, &["registry.nowhere.invalid"]);
    let _plain_trust = here.trust_registry(&plain);
    let missing = pulls(&plain, Some(&format!("{}/elsewhere", plain.host()))).await;
    has(&missing, CheckName::NodePull, FindingState::Failed, &["no such image"]);

    let guarded =
        TestRegistry::builder().address(here.host()).login(TestLogin::new("ada", "engine"));
    let guarded = guarded.start();
    images.place_in_storage(guarded.storage());
    let _trust = here.trust_registry(&guarded);
    let refused = pulls(&guarded, None).await;
    has(&refused, CheckName::NodePull, FindingState::Failed, &["requires a credential"]);
    let cluster = here.connect().await;
    let scope = ObjectScope::Namespace(space.name());
    apply::<Secret>(&cluster, scope, login(guarded.host(), "wrong")).await;
    let wrong = pulls(&guarded, None).await;
    has(&wrong, CheckName::PullSecret, FindingState::Failed, &["does not accept the login of ada"]);
    apply::<Secret>(&cluster, scope, login(guarded.host(), "engine")).await;
    let right = pulls(&guarded, None).await;
    has(&right, CheckName::PullSecret, FindingState::Ok, &["accepts the login of ada"]);
    has(&right, CheckName::NodePull, FindingState::Ok, &["it has pulled"]);
}

#[tokio::test]
async fn missing_rights_are_named_with_the_rule_that_grants_them() {
    let here = TestCluster::from_environment();
    let space = here.create_namespace("check-rights");
    let registry = TestRegistry::builder().address(here.host()).start();
    let images = TestImages::cluster().select(&[workloads::QUIET]);
    let mut subject = subject(&here, &registry, &images, ("app", space.name())).await;
    let manifest =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
    subject.releases[0].manifests = Ok(vec![manifest]);
    subject.cluster = guest(&here, space.name()).await;

    let report = run_checks(&subject, &CheckName::ALL).await;

    let missing =
        has(&report, CheckName::Rights, FindingState::Failed, &["create deployments for app"]);
    for part in ["ask an administrator", "\"apps\"", "\"deployments\"", "\"create\""] {
        assert!(missing.next.contains(part), "{}", missing.next);
    }
    has(&report, CheckName::Pods, FindingState::Failed, &["not allowed"]);
    has(&report, CheckName::Nodes, FindingState::Warning, &["not allowed"]);
    has(&report, CheckName::NodePull, FindingState::Warning, &["not allowed"]);
}

// --- the story ----------------------------------------------------------------------------------

async fn subject(
    here: &TestCluster,
    registry: &TestRegistry,
    images: &TestImages,
    (name, namespace): (&str, &str),
) -> CheckSubject {
    let host = registry.host().to_owned();
    let ca: Vec<_> = registry.ca_file().into_iter().collect();
    let plain = if ca.is_empty() { vec![host.clone()] } else { vec![] };
    let once = net::RetryPolicy { attempts: 1, ..net::RetryPolicy::default() };
    let client = net::Client::builder().ca_files(ca.clone()).retry(once);
    let client = plain.iter().fold(client, |client, host| client.plain_http_host(host));
    CheckSubject {
        cluster: here.connect().await,
        registry: Some(SiteRegistry {
            prefix: host.parse().unwrap(),
            naming: NamingRule::Path,
            pull_secret: Some("site".to_owned()),
            client: client.build().unwrap(),
            mirrors: net::Mirrors::new(&std::collections::BTreeMap::new(), &plain).unwrap(),
            ca,
        }),
        storage_class: Some("local-path".to_owned()),
        lock: Some(lock(images)),
        releases: vec![release(name, namespace)],
        deployed: ReleaseExpectation::Optional,
        checks: vec![],
        servers: InferenceRules::builtin().clone(),
        models: vec![],
        ca: vec![],
    }
}

fn release(name: &str, namespace: &str) -> CheckedRelease {
    CheckedRelease {
        name: name.into(),
        namespace: namespace.into(),
        kube_version: None,
        manifests: Ok(vec![]),
    }
}

fn checks(list: &str) -> Vec<types::input::checks::DeclaredCheck> {
    let text = format!("version: 1\nname: a\nchecks:\n{list}");
    Input::parse("gantry.yaml", &text).unwrap().checks
}

/// Makes a lock of these images, with the digests that they have in the registry.
fn lock(images: &TestImages) -> Lock {
    let images = images.iter().map(|image| {
        let of = |digest: &Digest| image.manifests.iter().find(|one| one.digest == *digest);
        let named = of(&image.digest).unwrap();
        let is_index = |kind: &str| kind.contains("index") || kind.contains("manifest.list");
        let manifests = image.manifests.iter().filter(|one| !is_index(&one.media_type));
        let manifests = manifests.map(|one| LockedManifest {
            digest: one.digest,
            size: one.size,
            media_type: one.media_type.clone(),
            platform: Some(Platform::linux_amd64()),
            config: None,
            layers: vec![],
            layer_urls: std::collections::BTreeMap::new(),
        });
        LockedImage {
            reference: image.reference.clone(),
            digest: image.digest,
            media_type: named.media_type.clone(),
            size: named.size,
            platforms: vec![Platform::linux_amd64()],
            from: None,
            indexes: vec![],
            manifests: manifests.collect(),
            attached: vec![],
            attached_content: types::input::AttachedContent::Carried,
            seen: vec![],
        }
    });
    Lock {
        version: VERSION,
        name: "check".into(),
        platforms: vec![Platform::linux_amd64()],
        requests: vec![],
        charts: vec![],
        manifests: vec![],
        images: images.collect(),
        models: vec![],
        files: vec![],
    }
}

/// Makes a deployment with one container that pod security `restricted` allows, labelled as part of
/// a release.
fn deployment(name: &str, release: &str, image: &str, script: &str, ready: &Value) -> Value {
    let labels = json!({"app": name, "app.kubernetes.io/instance": release});
    json!({"metadata": {"name": name, "labels": labels}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["busybox", "sh", "-c", script], "readinessProbe": ready,
                "securityContext": {"allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]}}}]}}}})
}

/// Makes a pull secret with the login of ada.
fn login(host: &str, password: &str) -> Value {
    let auth = STANDARD.encode(format!("ada:{password}"));
    let config = json!({"auths": {host: {"auth": auth}}}).to_string();
    json!({"metadata": {"name": "site"}, "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": STANDARD.encode(config)}})
}

/// Connects to the cluster as a service account without any permission.
async fn guest(here: &TestCluster, namespace: &str) -> cluster::Cluster {
    let cluster = here.connect().await;
    let scope = ObjectScope::Namespace(namespace);
    apply::<ServiceAccount>(&cluster, scope, json!({"metadata": {"name": "guest"}})).await;
    let secret = json!({"type": "kubernetes.io/service-account-token", "metadata": {
        "name": "guest", "annotations": {"kubernetes.io/service-account.name": "guest"}}});
    apply::<Secret>(&cluster, scope, secret).await;
    let started = Instant::now();
    let token = loop {
        let secret = cluster.get_object::<Secret>(scope, "guest").await.unwrap().unwrap();
        if let Some(token) = secret.data.unwrap_or_default().remove("token") {
            break String::from_utf8(token.0).unwrap();
        }
        assert!(started.elapsed() < TIMEOUT, "the token does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let admin = std::fs::read_to_string(here.kubeconfig()).unwrap();
    let admin: Value = types::yaml::read_document("kubeconfig", &admin).unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "guest",
        "clusters": [{"name": "c", "cluster": admin["clusters"][0]["cluster"]}],
        "users": [{"name": "guest", "user": {"token": token}}],
        "contexts": [{"name": "guest", "context":
            {"cluster": "c", "user": "guest", "namespace": namespace}}]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    let access = ClusterAccess { kubeconfig: Some(file), ..ClusterAccess::default() };
    cluster::Cluster::connect(&access).await.unwrap()
}

async fn apply<K: TypedObject>(cluster: &cluster::Cluster, scope: ObjectScope<'_>, object: Value) {
    let object: K = from_value(object).unwrap();
    cluster.apply_object(scope, &object).await.unwrap();
}

/// Repeats the checks until the report meets the condition.
async fn until(
    subject: &CheckSubject,
    names: &[CheckName],
    is_it: impl Fn(&CheckReport) -> bool,
) -> CheckReport {
    let started = Instant::now();
    loop {
        let report = run_checks(subject, names).await;
        if is_it(&report) {
            return report;
        }
        assert!(started.elapsed() < TIMEOUT, "it does not come: {report:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Returns the finding of a check with this state that contains these words; panics without one.
fn has<'a>(
    report: &'a CheckReport,
    name: CheckName,
    state: FindingState,
    words: &[&str],
) -> &'a CheckFinding {
    let found = report.findings.iter().find(|one| {
        let text = format!("{} {} {} {}", one.what, one.place, one.why, one.next);
        one.check == name && one.state == state && words.iter().all(|word| text.contains(word))
    });
    found
        .unwrap_or_else(|| panic!("{name} is not {state:?} with {words:?}: {:#?}", report.findings))
}
