//! Runs the checks in a real cluster: every kind of failure is found, with its reason and next
//! step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::{PersistentVolumeClaim, Secret, Service, ServiceAccount};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{Access, Object, Scope};
use gantry_deploy::check::{
    Deployed, Finding, Name, Release, Report, SiteRegistry, State, Subject, run,
};
use gantry_deploy::inference::recognise::Rules;
use testkit::{Cluster, Images, Login, Registry, workloads};
use types::input::Input;
use types::lock::{Image, Lock, Manifest, VERSION};
use types::naming::Naming;
use types::{Digest, Platform};

/// The longest wait for a pod to reach its final state, on a machine that other programs use as
/// well.
const TIMEOUT: Duration = Duration::from_secs(180);

#[tokio::test]
async fn a_healthy_release_is_well_and_each_thing_that_is_wrong_is_told_apart() {
    let here = Cluster::here();
    let registry = Registry::builder().address(here.host()).start();
    let images = Images::cluster().only(&[workloads::QUIET, workloads::CURIOUS]);
    images.place(registry.storage());
    let _trust = here.trusts(&registry);
    let space = here.namespace("check-wrong");
    let cluster = here.connect().await;
    let scope = Scope::Namespace(space.name());
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
        ("foreign", &here.image("busybox"), "sleep 600", &none),
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
    let is_curious = |image: &&mut Image| image.reference.to_string().contains("curious");
    let pushed_over = lock.images.iter_mut().find(is_curious).unwrap();
    pushed_over.digest = Digest::from_bytes([7; 32]);
    pushed_over.manifests[0].digest = pushed_over.digest;
    let mut absent = lock.images[0].clone();
    absent.reference = "ghcr.io/example/absent:1".parse().unwrap();
    lock.images.push(absent);

    subject.checks = checks(&format!(
        "- {{name: page, kind: http, release: good, service: web, expect: {{contains: all is well}}}}\n\
         - {{name: port, kind: tcp, namespace: {}, service: web, port: 80}}\n",
        space.name()
    ));
    let after = [Name::Workloads, Name::Claims, Name::Pods, Name::Inference];
    let good = until(&subject, &after, Report::is_well).await;
    has(&good, Name::Workloads, State::Ok, &["Deployment web", "1 of 1 ready"]);
    has(&good, Name::Pods, State::Ok, &["1 of 1 are ready"]);
    has(&good, Name::Inference, State::Ok, &["page", "200 with", "first answer after"]);
    has(&good, Name::Inference, State::Ok, &["port", "accepts connections"]);

    subject.releases = vec![release("bad", space.name())];
    subject.checks = checks(
        "- {name: text, kind: http, release: bad, service: web, expect: {contains: elsewhere}}\n",
    );
    let words =
        ["I never listen", "probe failed", "no model in /models", "keeps ending", "class nowhere"];
    let bad = until(&subject, &Name::ALL[11..], |report| {
        words.iter().all(|word| report.findings.iter().any(|one| one.why.contains(word)))
    })
    .await;
    has(&bad, Name::Workloads, State::Failed, &["Deployment crash", "0 of 1 ready"]);
    has(&bad, Name::Pods, State::Failed, &["Pod probe-", "probe failed", "I never listen"]);
    has(&bad, Name::Pods, State::Failed, &["Pod crash-", "no model in /models"]);
    has(&bad, Name::Pods, State::Failed, &["Pod mounting-", "PersistentVolumeClaim"]);
    has(&bad, Name::Claims, State::Failed, &["claim lost", "nowhere"]);
    has(&bad, Name::Running, State::Failed, &["Pod foreign-", "from outside the site"]);
    let digest =
        has(&bad, Name::Running, State::Failed, &["Pod other-", "locked digest is sha256:0707"]);
    assert!(digest.is_digest_wrong && bad.is_digest_wrong());
    has(&bad, Name::Running, State::Ok, &["containers run a locked image"]);
    has(
        &bad,
        Name::Inference,
        State::Failed,
        &["text", "the answer does not contain \"elsewhere\""],
    );

    let before = run(&subject, &Name::ALL[..10]).await;
    has(&before, Name::Api, State::Ok, &["Kubernetes v1."]);
    has(&before, Name::Rights, State::Ok, &["all "]);
    has(&before, Name::Nodes, State::Ok, &["Node node1", "ready"]);
    has(&before, Name::Storage, State::Ok, &["StorageClass local-path of site.yaml"]);
    has(&before, Name::Registry, State::Ok, &["it answers"]);
    has(&before, Name::PullSecret, State::Warning, &["Secret site", "does not exist"]);
    has(&before, Name::Images, State::Ok, &["1 of 3"]);
    has(&before, Name::Images, State::Failed, &["example/absent:1", "does not have it"]);
    let pushed = has(&before, Name::Images, State::Failed, &["curious:1.0", "under this name"]);
    assert!(pushed.is_digest_wrong);
    has(&before, Name::NodePull, State::Ok, &["Node node1", "it has pulled"]);
    has(&before, Name::Dns, State::Skipped, &["tools: [gantry]"]);
}

#[tokio::test]
async fn a_registry_that_nodes_cannot_use_is_told_apart_by_what_is_wrong() {
    let here = Cluster::here();
    let images = Images::cluster().only(&[workloads::QUIET]);
    let space = here.namespace("check-trust");
    let names = [Name::Registry, Name::PullSecret, Name::NodePull];
    let pulls = async |registry: &Registry, prefix: Option<&str>| {
        let mut subject = subject(&here, registry, &images, ("none", space.name())).await;
        if let (Some(prefix), Some(registry)) = (prefix, &mut subject.registry) {
            registry.prefix = prefix.parse().unwrap();
        }
        run(&subject, &names).await
    };

    let tls = Registry::builder().address(here.host()).tls().start();
    images.place(tls.storage());
    let untrusted = pulls(&tls, None).await;
    has(&untrusted, Name::NodePull, State::Failed, &["does not trust", "x509"]);
    has(&untrusted, Name::Registry, State::Ok, &["it answers"]);

    let plain = Registry::builder().address(here.host()).start();
    images.place(plain.storage());
    let http = pulls(&plain, None).await;
    has(&http, Name::NodePull, State::Failed, &["speaks http, but the node uses https"]);
    let nowhere = pulls(&plain, Some("registry.nowhere.invalid:5000")).await;
    has(&nowhere, Name::NodePull, State::Failed, &["cannot resolve"]);
    has(&nowhere, Name::Registry, State::Failed, &["registry.nowhere.invalid"]);
    let _plain_trust = here.trusts(&plain);
    let missing = pulls(&plain, Some(&format!("{}/elsewhere", plain.host()))).await;
    has(&missing, Name::NodePull, State::Failed, &["no such image"]);

    let guarded = Registry::builder().address(here.host()).login(Login::new("ada", "engine"));
    let guarded = guarded.start();
    images.place(guarded.storage());
    let _trust = here.trusts(&guarded);
    let refused = pulls(&guarded, None).await;
    has(&refused, Name::NodePull, State::Failed, &["requires a credential"]);
    let cluster = here.connect().await;
    let scope = Scope::Namespace(space.name());
    apply::<Secret>(&cluster, scope, login(guarded.host(), "wrong")).await;
    let wrong = pulls(&guarded, None).await;
    has(&wrong, Name::PullSecret, State::Failed, &["does not accept the login of ada"]);
    apply::<Secret>(&cluster, scope, login(guarded.host(), "engine")).await;
    let right = pulls(&guarded, None).await;
    has(&right, Name::PullSecret, State::Ok, &["accepts the login of ada"]);
    has(&right, Name::NodePull, State::Ok, &["it has pulled"]);
}

#[tokio::test]
async fn missing_rights_are_named_with_the_rule_that_grants_them() {
    let here = Cluster::here();
    let space = here.namespace("check-rights");
    let registry = Registry::builder().address(here.host()).start();
    let images = Images::cluster().only(&[workloads::QUIET]);
    let mut subject = subject(&here, &registry, &images, ("app", space.name())).await;
    let manifest =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
    subject.releases[0].manifests = Ok(vec![manifest]);
    subject.cluster = guest(&here, space.name()).await;

    let report = run(&subject, &Name::ALL).await;

    let missing = has(&report, Name::Rights, State::Failed, &["create deployments for app"]);
    for part in ["ask an administrator", "\"apps\"", "\"deployments\"", "\"create\""] {
        assert!(missing.next.contains(part), "{}", missing.next);
    }
    has(&report, Name::Pods, State::Failed, &["not allowed"]);
    has(&report, Name::Nodes, State::Warning, &["not allowed"]);
    has(&report, Name::NodePull, State::Warning, &["not allowed"]);
}

// --- the story ----------------------------------------------------------------------------------

async fn subject(
    here: &Cluster,
    registry: &Registry,
    images: &Images,
    (name, namespace): (&str, &str),
) -> Subject {
    let host = registry.host().to_owned();
    let ca: Vec<_> = registry.ca_file().into_iter().collect();
    let plain = if ca.is_empty() { vec![host.clone()] } else { vec![] };
    let once = net::RetryPolicy { attempts: 1, ..net::RetryPolicy::default() };
    Subject {
        cluster: here.connect().await,
        registry: Some(SiteRegistry {
            prefix: host.parse().unwrap(),
            naming: Naming::Path,
            pull_secret: Some("site".to_owned()),
            client: net::Client::builder().ca(ca.clone()).retry(once).build().unwrap(),
            mirrors: net::Mirrors::new(&std::collections::BTreeMap::new(), &plain).unwrap(),
            ca,
        }),
        storage_class: Some("local-path".to_owned()),
        lock: Some(lock(images)),
        releases: vec![release(name, namespace)],
        deployed: Deployed::Maybe,
        checks: vec![],
        servers: Rules::builtin().clone(),
        models: vec![],
        ca: vec![],
    }
}

fn release(name: &str, namespace: &str) -> Release {
    Release {
        name: name.into(),
        namespace: namespace.into(),
        kube_version: None,
        manifests: Ok(vec![]),
    }
}

fn checks(list: &str) -> Vec<types::input::checks::Check> {
    let text = format!("version: 1\nname: a\nchecks:\n{list}");
    Input::parse("gantry.yaml", &text).unwrap().checks
}

/// Makes a lock of these images, with the digests that they have in the registry.
fn lock(images: &Images) -> Lock {
    let images = images.iter().map(|image| {
        let of = |digest: &Digest| image.manifests.iter().find(|one| one.digest == *digest);
        let named = of(&image.digest).unwrap();
        let is_index = |kind: &str| kind.contains("index") || kind.contains("manifest.list");
        let manifests = image.manifests.iter().filter(|one| !is_index(&one.media_type));
        let manifests = manifests.map(|one| Manifest {
            digest: one.digest,
            size: one.size,
            media_type: one.media_type.clone(),
            platform: Some(Platform::linux_amd64()),
            config: None,
            layers: vec![],
        });
        Image {
            reference: image.reference.clone(),
            digest: image.digest,
            media_type: named.media_type.clone(),
            size: named.size,
            platforms: vec![Platform::linux_amd64()],
            from: None,
            manifests: manifests.collect(),
            attached: vec![],
            seen: vec![],
        }
    });
    Lock {
        version: VERSION,
        name: "check".into(),
        platforms: vec![Platform::linux_amd64()],
        charts: vec![],
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
async fn guest(here: &Cluster, namespace: &str) -> cluster::Cluster {
    let cluster = here.connect().await;
    let scope = Scope::Namespace(namespace);
    apply::<ServiceAccount>(&cluster, scope, json!({"metadata": {"name": "guest"}})).await;
    let secret = json!({"type": "kubernetes.io/service-account-token", "metadata": {
        "name": "guest", "annotations": {"kubernetes.io/service-account.name": "guest"}}});
    apply::<Secret>(&cluster, scope, secret).await;
    let started = Instant::now();
    let token = loop {
        let secret = cluster.get::<Secret>(scope, "guest").await.unwrap().unwrap();
        if let Some(token) = secret.data.unwrap_or_default().remove("token") {
            break String::from_utf8(token.0).unwrap();
        }
        assert!(started.elapsed() < TIMEOUT, "the token does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let admin = std::fs::read_to_string(here.kubeconfig()).unwrap();
    let admin: Value = types::yaml::read("kubeconfig", &admin).unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "guest",
        "clusters": [{"name": "c", "cluster": admin["clusters"][0]["cluster"]}],
        "users": [{"name": "guest", "user": {"token": token}}],
        "contexts": [{"name": "guest", "context":
            {"cluster": "c", "user": "guest", "namespace": namespace}}]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    let access = Access { kubeconfig: Some(file), ..Access::default() };
    cluster::Cluster::connect(&access).await.unwrap()
}

async fn apply<K: Object>(cluster: &cluster::Cluster, scope: Scope<'_>, object: Value) {
    let object: K = from_value(object).unwrap();
    cluster.apply(scope, &object).await.unwrap();
}

/// Repeats the checks until the report meets the condition.
async fn until(subject: &Subject, names: &[Name], is_it: impl Fn(&Report) -> bool) -> Report {
    let started = Instant::now();
    loop {
        let report = run(subject, names).await;
        if is_it(&report) {
            return report;
        }
        assert!(started.elapsed() < TIMEOUT, "it does not come: {report:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Returns the finding of a check with this state that contains these words; panics without one.
fn has<'a>(report: &'a Report, name: Name, state: State, words: &[&str]) -> &'a Finding {
    let found = report.findings.iter().find(|one| {
        let text = format!("{} {} {} {}", one.what, one.place, one.why, one.next);
        one.check == name && one.state == state && words.iter().all(|word| text.contains(word))
    });
    found
        .unwrap_or_else(|| panic!("{name} is not {state:?} with {words:?}: {:#?}", report.findings))
}
