//! An audit in a real cluster. It finds pods that connect to the outside by name, by address, behind a
//! network policy, or only for a second, each with its workload and the setting that stops it, and
//! reports no others. However the audit ends, CoreDNS is as before and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use crate::support;
use cluster::objects::ByteString;
use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::{ConfigMap, Namespace as Space, Pod, Secret};
use cluster::objects::api::networking::v1::NetworkPolicy;
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{AwaitedPodState, Cluster as Client, ObjectScope, mark_as_own};
use testkit::{
    Gantry, RegistryTrust, TestCluster, TestLogin, TestNamespace, TestRegistry,
    TestRegistryBuilder, tools,
};

const TIMEOUT: Duration = Duration::from_mins(5);

/// A site whose registry has Gantry's own image, and a namespace to audit.
struct Ground {
    here: TestCluster,
    space: TestNamespace,
    gantry: Gantry,
    registry: TestRegistry,
    _trust: RegistryTrust,
    home: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    fn new(story: &str) -> Self {
        Self::with_registry(story, TestRegistry::builder(), "")
    }

    /// With a registry as it is built, and more of `registry:` in site.yaml.
    fn with_registry(story: &str, registry: TestRegistryBuilder, more: &str) -> Self {
        let turn = support::take_audit_turn();
        let here = TestCluster::from_environment();
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config.yaml"), "mirrors: {}\n").unwrap();
        let registry = registry.address(here.host()).start();
        let trust = here.trust_registry(&registry);
        let gantry = Gantry::new(env!("CARGO_BIN_EXE_gantry"), home.path()).in_cluster(&here);
        let host = registry.host();
        let site = format!(
            "version: 1\ncontext: {}\nregistry: {{url: \"{host}\", plainHttp: true{more}}}\n",
            context(&here)
        );
        gantry.write_file("site.yaml", &site);
        let docker = home.path().join("docker");
        if let Some(login) = registry.login() {
            login.write_docker_config(&docker, host);
        }
        let own = Gantry::new(tools::static_gantry_path(), home.path());
        let own = own.env("DOCKER_CONFIG", docker);
        own.run(["image"]).assert_success();
        own.run(["load", own.store().to_str().unwrap(), "--to", host, "--plain-http"])
            .assert_success();
        let space = here.create_namespace(story);
        Self { here, space, gantry, registry, _trust: trust, home, _turn: turn }
    }

    fn name(&self) -> &str {
        self.space.name()
    }

    /// The arguments of `gantry audit` for the test's namespace.
    fn audit<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let all = ["audit", "--site", "site.yaml", "--namespace", self.name(), "--report", "out"];
        all.iter().chain(more).copied().collect()
    }

    fn report(&self) -> Value {
        cluster::objects::serde_json::from_str(&self.gantry.read_file("out/audit.json")).unwrap()
    }

    fn pod(&self, name: &str, env: &Value, script: &str) -> Pod {
        let mut pod: Pod = from_value(json!({
            "metadata": {"name": name, "labels": {"app": name}}, "spec": self.spec(env, script)}))
        .unwrap();
        mark_as_own(&mut pod.metadata, "test");
        pod
    }

    fn spec(&self, env: &Value, script: &str) -> Value {
        json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 4711,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": self.here.image_name("busybox"), "env": env,
                "imagePullPolicy": "Never", "command": ["sh", "-c", script], "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]})
    }
}

/// What an audit must restore (the Corefile), and what it must not leave behind.
async fn left(client: &Client) -> (Value, Vec<String>) {
    let system = ObjectScope::Namespace("kube-system");
    let map = client.get_object::<ConfigMap>(system, "coredns").await.unwrap().unwrap();
    let what = json!({"data": map.data, "binaryData": map.binary_data,
        "labels": map.metadata.labels, "annotations": map.metadata.annotations});
    let mut behind = Vec::new();
    if client.get_object::<Space>(ObjectScope::Cluster, "gantry-audit").await.unwrap().is_some() {
        behind.push("the namespace".to_owned());
    }
    if client.get_object::<ConfigMap>(system, "gantry-audit").await.unwrap().is_some() {
        behind.push("the record".to_owned());
    }
    for pod in client.list_objects::<Pod>(system, "k8s-app=kube-dns").await.unwrap() {
        let marks = pod.metadata.annotations.unwrap_or_default();
        behind.extend(marks.into_keys().filter(|key| key.starts_with("gantry.dev/")));
    }
    (what, behind)
}

fn attempts<'a>(report: &'a Value, kind: &str, name: &str) -> Vec<&'a Value> {
    let is_it =
        |tried: &&Value| tried["workload"]["kind"] == kind && tried["workload"]["name"] == name;
    report["attempts"].as_array().unwrap().iter().filter(is_it).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_phones_home_is_caught_with_the_pod_and_what_stops_it() {
    let ground = Ground::new("audit-loud");
    let client = ground.here.connect().await;
    let scope = ObjectScope::Namespace(ground.name());
    let before = left(&client).await;
    // By a name that is in a URL in its environment.
    let env = json!([{"name": "TELEMETRY", "value": "https://t.maker-of-it.com/v1/ping"}]);
    let script = "while true; do nslookup t.maker-of-it.com; sleep 0.5; done";
    let telemetry: Deployment = from_value(json!({"metadata": {"name": "telemetry"}, "spec": {
        "selector": {"matchLabels": {"app": "telemetry"}}, "template": {
            "metadata": {"labels": {"app": "telemetry"}}, "spec": ground.spec(&env, script)}}}))
    .unwrap();
    client.apply_object(scope, &telemetry).await.unwrap();
    // By an address, in spite of a network policy.
    let dial = |to: &str| format!("while true; do nc -w 1 {to} </dev/null; sleep 0.5; done");
    let env = json!([{"name": "LICENSE_SERVER", "value": "192.0.2.7"}]);
    client
        .start_pod(ground.name(), &ground.pod("dialer", &env, &dial("192.0.2.7 8443")))
        .await
        .unwrap();
    let held: NetworkPolicy = from_value(json!({"metadata": {"name": "held"}, "spec": {
        "podSelector": {"matchLabels": {"app": "held"}}, "policyTypes": ["Egress"]}}))
    .unwrap();
    client.apply_object(scope, &held).await.unwrap();
    client
        .start_pod(ground.name(), &ground.pod("held", &json!([]), &dial("198.51.100.9 443")))
        .await
        .unwrap();
    for name in ["dialer", "held"] {
        client.wait_for_pod(ground.name(), name, AwaitedPodState::Running, TIMEOUT).await.unwrap();
    }

    let running = ground.gantry.start(ground.audit(&["--soak", "12s", "--run", "true"]));
    waits(|| running.printed_text().contains("listening for"), "it soaks").await;
    // A pod that has ended before the audit looks at it.
    let brief = ground.pod("brief", &json!([]), "nslookup brief.maker-of-it.com; sleep 1000");
    client.start_pod(ground.name(), &brief).await.unwrap();
    client.wait_for_pod(ground.name(), "brief", AwaitedPodState::Running, TIMEOUT).await.unwrap();
    tokio::time::timeout(TIMEOUT, async {
        while !client
            .read_logs(ground.name(), "brief", None, None)
            .await
            .unwrap()
            .contains("NXDOMAIN")
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    client.remove_pod(ground.name(), "brief").await.unwrap();
    let printed = tokio::task::spawn_blocking(move || {
        let mut running = running;
        while running.is_running() {
            std::thread::sleep(Duration::from_millis(100));
        }
        (running.printed_text(), running.wait())
    });
    let (printed, code) = printed.await.unwrap();

    assert_eq!(code, Some(3), "{printed}");
    let report = ground.report();
    assert_eq!(report["verdict"], "tried");
    assert_eq!(report["gaps"], json!([]), "{printed}");
    let by_name = attempts(&report, "Deployment", "telemetry");
    assert_eq!(by_name[0]["to"], "t.maker-of-it.com");
    assert!(by_name[0]["pods"][0].as_str().unwrap().contains("/telemetry-"));
    assert_eq!(by_name[0]["stops"][0]["sure"], "certain");
    assert!(by_name[0]["stops"][0]["setting"].as_str().unwrap().contains("env[0]"), "{report}");
    let by_address = attempts(&report, "Pod", "dialer");
    assert_eq!(by_address[0]["to"], "192.0.2.7:8443 tcp");
    let stop = by_address[0]["stops"][0]["setting"].as_str().unwrap();
    assert!(stop.contains("LICENSE_SERVER"), "{stop}");
    assert_eq!(attempts(&report, "Pod", "held")[0]["to"], "198.51.100.9:443 tcp");
    assert_eq!(attempts(&report, "Pod", "brief")[0]["to"], "brief.maker-of-it.com");
    let uncovered = report["policies"][0]["uncovered"].to_string();
    assert!(uncovered.contains("telemetry") && !uncovered.contains("held"), "{uncovered}");
    assert_eq!(report["exercised"][0]["outcome"], "done");
    let page = ground.gantry.read_file("out/audit.html");
    assert!(page.contains("telemetry") && page.contains("198.51.100.9:443"));
    assert_eq!(left(&client).await, (before.0, vec![]));
}

/// The namespace of the helpers is privileged, so no credential stays in it.
#[tokio::test(flavor = "multi_thread")]
async fn the_pull_secret_is_lent_for_the_pull_alone_and_with_one_login_only() {
    const DOCKER: &str = ".dockerconfigjson";
    let registry = TestRegistry::builder().login(TestLogin::new("ada", "engine"));
    let ground = Ground::with_registry("audit-secret", registry, ", pullSecret: site");
    let client = ground.here.connect().await;
    let host = ground.registry.host().to_owned();
    let config = std::fs::read(ground.home.path().join("docker/config.json")).unwrap();
    let mut config: Value = cluster::objects::serde_json::from_slice(&config).unwrap();
    config["auths"]["registry.other.example"] = json!({"auth": "YTpi"});
    let mut secret = Secret {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some([(DOCKER.to_owned(), ByteString(config.to_string().into_bytes()))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some("site".into());
    client.create_object(ObjectScope::Namespace(ground.name()), &secret).await.unwrap();
    let there = ObjectScope::Namespace("gantry-audit");
    let lent = async || client.get_object::<Secret>(there, "site").await.unwrap();

    let mut running = ground.gantry.start(ground.audit(&["--soak", "2s"]));
    let started = Instant::now();
    let mut seen = None;
    while running.is_running() && seen.is_none() {
        assert!(started.elapsed() < TIMEOUT, "{}", running.printed_text());
        seen = lent().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let copy = seen.unwrap_or_else(|| panic!("it was not lent: {}", running.printed_text()));
    let held = copy.data.unwrap()[DOCKER].0.clone();
    let held: Value = cluster::objects::serde_json::from_slice(&held).unwrap();
    let hosts: Vec<&String> = held["auths"].as_object().unwrap().keys().collect();
    assert_eq!(hosts, [&host]);
    // Should this audit be killed now, its owner goes, and the copy with it.
    assert_eq!(copy.metadata.owner_references.unwrap()[0].kind, "Job");
    waits(|| running.printed_text().contains("listening for"), "it soaks").await;
    assert!(lent().await.is_none(), "it is there while the audit listens");
    let printed = tokio::task::spawn_blocking(move || (running.printed_text(), running.wait()));
    let (printed, code) = printed.await.unwrap();
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(left(&client).await.1, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_namespace_gets_a_clean_report_and_its_policies() {
    let ground = Ground::new("audit-quiet");
    let client = ground.here.connect().await;
    let before = left(&client).await;
    let script = "while true; do nslookup kubernetes.default.svc.cluster.local; nslookup redis; \
                  nc -w 1 10.96.0.1 443 </dev/null; sleep 0.5; done";
    client.start_pod(ground.name(), &ground.pod("quiet", &json!([]), script)).await.unwrap();
    client.wait_for_pod(ground.name(), "quiet", AwaitedPodState::Running, TIMEOUT).await.unwrap();

    let closed = ["--soak", "6s", "--policies", "policies", "--apply-policies"];
    let output = ground.gantry.run(ground.audit(&closed)).assert_success();

    let report = ground.report();
    assert_eq!(report["verdict"], "quiet", "{}", output.stdout);
    assert_eq!(report["attempts"], json!([]));
    assert!(output.stdout.contains("nothing tried to leave"), "{}", output.stdout);
    let file = format!("policies/{}.yaml", ground.name());
    assert!(ground.gantry.read_file(&file).contains("gantry-deny-egress"));
    let again = ground.gantry.run(ground.audit(&[])).assert_success();
    assert!(!again.stdout.contains("no network policy restricts"), "{}", again.stdout);
    assert_eq!(left(&client).await, (before.0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_an_audit_everything_is_as_it_was() {
    let ground = Ground::new("audit-killed");
    let client = ground.here.connect().await;
    let before = left(&client).await;
    let long = ground.audit(&["--soak", "10m"]);

    // A second audit at the same time is refused; then the first is killed while it listens.
    let running = ground.gantry.start(&long);
    waits(|| running.printed_text().contains("listening for"), "it soaks").await;
    assert_ne!(left(&client).await.0, before.0, "CoreDNS forwards to the sink");
    let busy = ground.gantry.run(ground.audit(&["--soak", "1s"])).assert_exit_code(2);
    assert!(busy.stderr.contains("gantry audit restore"), "{}", busy.stderr);
    tokio::task::spawn_blocking(|| running.kill()).await.unwrap();
    assert_eq!(left(&client).await.1.len(), 3, "what is put back is written down");
    let restored = ground.gantry.run(["audit", "restore", "--site", "site.yaml"]).assert_success();
    assert!(restored.stdout.contains("Corefile is restored"), "{}", restored.stdout);
    assert_eq!(left(&client).await, (before.0.clone(), vec![]));
    let again = ground.gantry.run(["audit", "restore", "--site", "site.yaml"]).assert_success();
    assert!(again.stdout.contains("nothing to undo"), "{}", again.stdout);

    // Killed early; the next audit, whose DNS server runs in the process, undoes the changes itself.
    let running = ground.gantry.start(&long);
    waits(|| running.printed_text().contains("starting helper pods"), "it begins").await;
    tokio::task::spawn_blocking(|| running.kill()).await.unwrap();
    let here = format!("{}:15353", ground.here.host());
    let at_once = ["--soak", "1s", "--no-connections", "--sink-address", &here];
    let next = ground.gantry.run(ground.audit(&at_once)).assert_success();
    assert!(next.stderr.contains("an earlier audit that was killed"), "{}", next.stderr);
    assert_eq!(ground.report()["sources"][0]["source"], "dns");
    assert_eq!(left(&client).await, (before.0.clone(), vec![]));

    // Ctrl-C: a report of what was seen so far.
    let running = ground.gantry.start(&long);
    waits(|| running.printed_text().contains("listening for"), "it soaks").await;
    let code = tokio::task::spawn_blocking(|| running.interrupt()).await.unwrap();
    assert_eq!(code, Some(4));
    assert_eq!(ground.report()["verdict"], "unproven");
    assert_eq!(left(&client).await, (before.0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_before_anything_is_touched() {
    let ground = Ground::new("audit-wrong");
    let client = ground.here.connect().await;
    let before = left(&client).await;
    let fails = |gantry: &Gantry, more: &[&str], words: &[&str]| {
        let error = gantry.run(ground.audit(more)).assert_exit_code(2).stderr;
        for word in words {
            assert!(error.contains(word), "{more:?}: no {word:?} in {error}");
        }
    };

    fails(&ground.gantry, &["--soak", "0s"], &["write a time from 1s to 168h"]);
    fails(
        &ground.gantry,
        &["--soak", "9s", "--no-dns", "--no-connections"],
        &["nothing to record"],
    );
    fails(&ground.gantry, &["--no-live"], &["--manifests FILE"]);
    fails(&ground.gantry, &["--inside", "com"], &["git.site.net"]);
    fails(&ground.gantry, &["--allow", "registry.corp"], &["addresses, not names"]);
    let text = std::fs::read_to_string(ground.here.kubeconfig()).unwrap();
    let file =
        ground.gantry.write_file("nobody", &text.replacen("user: {", "user: {as: nobody, ", 1));
    let nobody = ground.gantry.clone().env("KUBECONFIG", file);
    let rule = r#"apiGroups: [""], resources: ["configmaps"]"#;
    fails(&nobody, &["--soak", "9s"], &["permissions are missing", rule, "update", "kube-system"]);

    assert_eq!(left(&client).await, before);
}

/// Polls until the condition holds, without blocking other tasks.
async fn waits(is_so: impl Fn() -> bool, what: &str) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIMEOUT, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn context(here: &TestCluster) -> String {
    let text = std::fs::read_to_string(here.kubeconfig()).unwrap();
    let line = text.lines().find(|line| line.starts_with("current-context:")).unwrap();
    line.trim_start_matches("current-context:").trim().trim_matches('"').to_owned()
}
