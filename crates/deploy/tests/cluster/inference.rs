//! First inference with real model servers in a real cluster: servers are recognised or declared,
//! get a request, and their answers are judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{AwaitedPodState, ObjectScope, TypedObject, mark_as_own};
use gantry_deploy::check::{
    CheckName, CheckReport, CheckSubject, CheckedRelease, FindingState, ReleaseExpectation,
    run_checks,
};
use gantry_deploy::inference::recognise::InferenceRules;
use testkit::{MINILM, TestCluster, TestImages, TestRegistry, tools, workloads};
use types::input::Input;

/// The longest wait for a server to load its model, on a machine that other programs use as well.
const TIMEOUT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn llama_cpp_and_ollama_are_recognised_and_an_embedding_server_answers_as_declared() {
    let here = TestCluster::from_environment();
    let registry = TestRegistry::builder().address(here.host()).start();
    let servers = [workloads::LLAMA_SERVER, workloads::OLLAMA, workloads::EMBED_SERVER];
    TestImages::cluster().select(&servers).place_in_storage(registry.storage());
    let _trust = here.trust_registry(&registry);
    let space = here.create_namespace("check-inference");
    let cluster = here.connect().await;
    let story = Story { cluster, namespace: space.name(), loader: here.image_name("busybox") };
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(workloads::gguf_path(), folder.path().join("tiny.gguf")).unwrap();
    workloads::write_ollama_models(&folder.path().join("ollama/models"));
    workloads::write_hub_cache(&folder.path().join("hub"));
    story.claim(folder.path()).await;
    let site = registry.host();
    let llama = format!("{site}/example/llama-server:0.3.16");
    let args = json!(["--model=/data/tiny.gguf", "--host=0.0.0.0", "--port=8000", "--n_ctx=512"]);
    story.serve("llama", &llama, &args, 8000, &json!([])).await;
    let env = json!([{"name": "OLLAMA_MODELS", "value": "/data/ollama/models"},
        {"name": "HOME", "value": "/tmp"}]);
    let ollama = format!("{site}/ollama/ollama:0.6.8");
    story.serve("ollama", &ollama, &json!(["serve"]), 11434, &env).await;
    let env =
        json!([{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "HF_HOME", "value": "/data"}]);
    let embed = format!("{site}/example/embed-server:1.0");
    story.serve("embed", &embed, &json!(["--host=0.0.0.0", "--port=8080"]), 8080, &env).await;

    let subject = story.subject(&checks(MINILM));
    let report = until(&subject, CheckReport::has_passed).await;

    has(
        &report,
        FindingState::Ok,
        &["openai-chat at Service llama:80", "(llama-cpp)", "streamed", "first answer after"],
    );
    has(
        &report,
        FindingState::Ok,
        &["ollama at Service ollama:80", workloads::OLLAMA_MODEL, "answered"],
    );
    has(&report, FindingState::Ok, &["vectors:", "384 dimensions, norm 1.00"]);
    has(&report, FindingState::Ok, &["tei:", "384 dimensions"]);
    has(&report, FindingState::Ok, &["sie:", MINILM, "384 dimensions"]);

    let wrong = story.subject(
        "- {name: size, kind: openai-embeddings, release: app, service: embed, expect: {dimensions: 768}}\n\
         - {name: absent, kind: sie-encode, release: app, service: embed, model: no/such}\n\
         - {name: protocol, kind: kserve-v2, release: app, service: embed, timeout: 20s}\n\
         - {name: ours, kind: ollama, release: app, service: ollama, model: other}\n",
    );
    let wrong = run_checks(&wrong, &[CheckName::Inference]).await;
    has(&wrong, FindingState::Failed, &["size:", "has 384 values instead of 768"]);
    has(&wrong, FindingState::Failed, &["absent:", "no/such"]);
    has(&wrong, FindingState::Failed, &["protocol:", "/v2/health/ready answered 404"]);
    has(&wrong, FindingState::Failed, &["ours:", "does not have other; it has gantry-tiny"]);
}

/// Checks of one embedding server, which speaks three protocols.
fn checks(model: &str) -> String {
    format!(
        "- {{name: vectors, kind: openai-embeddings, release: app, service: embed}}\n\
         - {{name: tei, kind: tei, release: app, service: embed, expect: {{dimensions: 384}}}}\n\
         - {{name: sie, kind: sie-encode, release: app, service: embed, port: 80, model: {model}}}\n"
    )
}

// --- the story ----------------------------------------------------------------------------------

struct Story<'a> {
    cluster: cluster::Cluster,
    namespace: &'a str,
    loader: String,
}

impl Story<'_> {
    fn subject(&self, checks: &str) -> CheckSubject {
        let text = format!("version: 1\nname: a\nchecks:\n{checks}");
        CheckSubject {
            cluster: self.cluster.clone(),
            registry: None,
            storage_class: None,
            lock: None,
            releases: vec![CheckedRelease {
                name: "app".into(),
                namespace: self.namespace.into(),
                kube_version: None,
                manifests: Ok(vec![]),
            }],
            deployed: ReleaseExpectation::Required,
            checks: Input::parse("gantry.yaml", &text).unwrap().checks,
            servers: InferenceRules::builtin().clone(),
            models: vec![],
            ca: vec![],
        }
    }

    /// Creates the claim `data` with the content of a folder.
    async fn claim(&self, folder: &Path) {
        let scope = ObjectScope::Namespace(self.namespace);
        let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "shared-path",
            "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "200Mi"}}}});
        apply::<PersistentVolumeClaim>(&self.cluster, scope, claim).await;
        let mut spec = pod(&self.loader, &json!([]), &json!([]));
        spec["containers"][0]["command"] = json!(["busybox", "sleep", "600"]);
        let mut loader: Pod =
            from_value(json!({"metadata": {"name": "loader"}, "spec": spec})).unwrap();
        mark_as_own(&mut loader.metadata, "test");
        self.cluster.start_pod(self.namespace, &loader).await.unwrap();
        self.cluster
            .wait_for_pod(self.namespace, "loader", AwaitedPodState::Ready, TIMEOUT)
            .await
            .unwrap();
        let tar =
            tools::tool_command("tar").args(["c", "-C"]).arg(folder).arg(".").output().unwrap();
        let script = format!("head -c {} | tar x -o -C /data", tar.stdout.len());
        let command = ["sh", "-c", script.as_str()];
        let filling =
            self.cluster.run_program(self.namespace, "loader", "main", &command, &tar.stdout);
        let outcome = Box::pin(filling).await.unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        self.cluster.remove_pod(self.namespace, "loader").await.unwrap();
    }

    /// Starts a server with a Service in front of it, at port 80.
    async fn serve(&self, name: &str, image: &str, args: &Value, port: u16, env: &Value) {
        let scope = ObjectScope::Namespace(self.namespace);
        let mut spec = pod(image, args, env);
        spec["containers"][0]["ports"] = json!([{"containerPort": port}]);
        spec["containers"][0]["readinessProbe"] =
            json!({"tcpSocket": {"port": port}, "periodSeconds": 2});
        let labels = json!({"app": name, "app.kubernetes.io/instance": "app"});
        let deployment = json!({"metadata": {"name": name, "labels": labels}, "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec}}});
        apply::<Deployment>(&self.cluster, scope, deployment).await;
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": name},
            "ports": [{"port": 80, "targetPort": port}]}});
        apply::<Service>(&self.cluster, scope, service).await;
    }
}

/// Makes a pod with one container that pod security `restricted` allows, with the claim at `/data`.
fn pod(image: &str, args: &Value, env: &Value) -> Value {
    json!({"terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "tmp", "emptyDir": {}}],
        "containers": [{"name": "main", "image": image, "args": args, "env": env,
            "imagePullPolicy": "IfNotPresent",
            "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]})
}

async fn apply<K: TypedObject>(cluster: &cluster::Cluster, scope: ObjectScope<'_>, object: Value) {
    let object: K = from_value(object).unwrap();
    cluster.apply_object(scope, &object).await.unwrap();
}

/// Waits until the pods are ready, then repeats the check until the report meets the condition.
async fn until(subject: &CheckSubject, is_it: impl Fn(&CheckReport) -> bool) -> CheckReport {
    let started = Instant::now();
    loop {
        let pods = run_checks(subject, &[CheckName::Pods, CheckName::Workloads]).await;
        let report = match pods.has_passed() {
            true => run_checks(subject, &[CheckName::Inference]).await,
            false => pods,
        };
        let is_asked = report.findings.iter().any(|one| one.check == CheckName::Inference);
        if is_asked && is_it(&report) {
            return report;
        }
        assert!(started.elapsed() < TIMEOUT, "it does not come: {report:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn has(report: &CheckReport, state: FindingState, words: &[&str]) {
    let found = report.findings.iter().any(|one| {
        let text = format!("{}: {}", one.what, one.why);
        one.state == state && words.iter().all(|word| text.contains(word))
    });
    assert!(found, "nothing is {state:?} with {words:?}: {:#?}", report.findings);
}
