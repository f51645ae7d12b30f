//! The workloads of the cluster tests, each in a real pod: it becomes ready and answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{AwaitedPodState, ForwardTarget, ObjectScope, mark_as_own};
use gantry_testkit::{
    MINILM, RegistryTrust, S3Server, TestCluster, TestImages, TestNamespace, TestRegistry, charts,
    tools, wait_until, workloads,
};

const TIMEOUT: Duration = Duration::from_mins(5);
/// The small model's digest, on every machine.
const TINY_MODEL: &str = "sha256:f1faf5cfbc1440c09fc41a49622fbaf2076f7ea8ad895e23009ce4f5bd4fafb7";

#[tokio::test]
async fn an_umbrella_of_llama_cpp_ollama_and_redis_answers_without_having_pulled_a_model() {
    let images = [workloads::LLAMA_SERVER, workloads::OLLAMA, workloads::REDIS_CACHE];
    let story = Story::new("umbrella", &images).await;
    let (gguf, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::copy(workloads::gguf_path(), gguf.path().join("gantry-tiny.gguf")).unwrap();
    let manifest = workloads::write_ollama_models(&home.path().join("models"));
    assert!(String::from_utf8_lossy(&manifest).contains(TINY_MODEL), "other bytes than elsewhere");
    story.claim("gguf", "local-path", gguf.path()).await;
    story.claim("ollama", "local-path", home.path()).await;

    let site = story.registry.host();
    story.install(
        "umbrella",
        &[
            "two-model-servers.enabled=false",
            &format!("cache.image.repository={site}/example/redis"),
            &format!("llm.image.repository={site}/example/llama-server"),
            "llm.persistence.existingClaim=gguf",
            &format!("ollama.image.registry={site}"),
            "ollama.persistence.existingClaim=ollama",
            "ollama.modelPull.enabled=false",
        ],
    );

    let question = json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8});
    let answer = story.ask("test-llm", 8000, "/v1/chat/completions", &question).await;
    assert_eq!(answer["usage"]["completion_tokens"], 8, "{answer}");
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty(), "{answer}");
    let question = json!({"model": workloads::OLLAMA_MODEL, "prompt": "hello", "stream": false});
    let answer = story.ask("test-ollama", 11434, "/api/generate", &question).await;
    assert_eq!(answer["eval_count"], 16, "{answer}");
    assert!(!answer["response"].as_str().unwrap().is_empty(), "{answer}");
}

#[tokio::test]
async fn two_model_servers_encode_from_one_claim_and_refuse_to_start_without_a_model() {
    let story = Story::new("embed", &[workloads::EMBED_SERVER]).await;
    let cache = tempfile::tempdir().unwrap();
    workloads::write_hub_cache(&cache.path().join("hub"));
    story.claim("models", "shared-path", cache.path()).await;

    let offline = "extraEnv[0].name=HF_HUB_OFFLINE";
    story.install(
        "two-model-servers",
        &[
            &format!("global.imageRegistry={}", story.registry.host()),
            "inferenceCapability.existingClaim=models",
            "indexCapability.existingClaim=models",
            &format!("inferenceCapability.{offline}"),
            "inferenceCapability.extraEnv[0].value=1",
            &format!("indexCapability.{offline}"),
            "indexCapability.extraEnv[0].value=1",
        ],
    );

    let texts = ["A man is eating food.", "A man is eating a piece of bread.", "The girl sings."];
    let question = json!({"input": texts, "model": MINILM});
    let answer = story.ask("test-inference-model", 9000, "/v1/embeddings", &question).await;
    let rows: Vec<Vec<f64>> = (0..3).map(|row| vector(&answer["data"][row]["embedding"])).collect();
    // What sentence-transformers' documentation has for this pair.
    assert!((dot(&rows[0], &rows[1]) - 0.7553).abs() < 1e-3, "{}", dot(&rows[0], &rows[1]));
    assert!(dot(&rows[0], &rows[1]) > dot(&rows[0], &rows[2]) + 0.5);
    let tei = story.ask("test-indexing-model", 9000, "/embed", &json!({"inputs": texts})).await;
    assert!((dot(&vector(&tei[0]), &rows[0]) - 1.0).abs() < 1e-4);
    let items = json!({"items": [{"id": "1", "text": texts[0]}]});
    let path = format!("/v1/encode/{MINILM}");
    let sie = story.ask("test-indexing-model", 9000, &path, &items).await;
    assert_eq!(sie["items"][0]["dense"]["dims"], 384);

    let image = format!("{}/example/embed-server:1.0", story.registry.host());
    let mut pod = pod("empty", &image, &[]);
    pod.spec.as_mut().unwrap().containers[0].env =
        Some(vec![from_value(json!({"name": "HF_HUB_OFFLINE", "value": "1"})).unwrap()]);
    story.cluster.start_pod(story.name(), &pod).await.unwrap();
    let ended =
        story.cluster.wait_for_pod(story.name(), "empty", AwaitedPodState::Ended, TIMEOUT).await;
    assert!(ended.is_err() || phase(&ended.unwrap()) == "Failed");
    let said = story.cluster.read_logs(story.name(), "empty", Some("main"), None).await.unwrap();
    assert!(said.contains(&format!("cannot load {MINILM}")), "{said}");
}

#[tokio::test]
async fn a_worker_of_sie_fills_its_cache_from_a_bucket_and_encodes() {
    let story = Story::new("sie", &[workloads::SIE_SERVER]).await;
    let bucket = S3Server::start_at(story.here.host());
    let cache = tempfile::tempdir().unwrap();
    workloads::write_hub_cache(cache.path());
    bucket.run_boto3(&format!(
        "base = '{}'\n\
         for folder, _, files in os.walk(base):\n\
         \x20   for name in files:\n\
         \x20       path = os.path.join(folder, name)\n\
         \x20       s3.upload_file(path, bucket, 'sie/' + os.path.relpath(path, base))",
        cache.path().display()
    ));

    let endpoint = bucket.url();
    let env = [
        ("HF_HUB_OFFLINE", "1"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let mut values: Vec<String> = Vec::new();
    for (number, (name, value)) in env.iter().enumerate() {
        let entry = format!("workers.common.extraEnv[{number}]");
        values.extend([format!("{entry}.name={name}"), format!("{entry}.value={value}")]);
    }
    values.extend([
        format!("workers.common.image.registry={}", story.registry.host()),
        "workers.common.clusterCache.enabled=true".to_owned(),
        format!("workers.common.clusterCache.url=s3://{}/sie", S3Server::BUCKET),
    ]);
    story.install("sie-like", &values.iter().map(String::as_str).collect::<Vec<_>>());

    let question = json!({"items": [{"id": "1", "text": "hello world"}],
        "params": {"output_types": ["dense"], "output_dtype": "float32"}});
    let path = format!("/v1/encode/{MINILM}");
    let answer = story.ask("test-worker", 8080, &path, &question).await;
    let dense = &answer["items"][0]["dense"];
    assert_eq!(dense["dims"], 384, "{answer}");
    let values = vector(&dense["values"]);
    assert!((dot(&values, &values) - 1.0).abs() < 1e-4);
}

#[tokio::test]
async fn the_real_charts_of_postgresql_and_redis_run_debians_programs() {
    let story = Story::new("data", &[workloads::POSTGRESQL, workloads::REDIS]).await;
    let registry = format!("global.imageRegistry={}", story.registry.host());
    let ours = [registry.as_str(), "global.security.allowInsecureImages=true"];

    let small = ["primary.persistence.size=100Mi", "primary.resourcesPreset=none"];
    let database = ["auth.username=ada", "auth.password=engine", "auth.database=notes"];
    let values = [&ours[..], &small, &database].concat();
    story.install_archive("sql", &tools::chart_archive("postgresql"), &values);
    let small = ["architecture=standalone", "master.persistence.size=100Mi"];
    let soon = ["master.resourcesPreset=none", "master.readinessProbe.initialDelaySeconds=1"];
    let values = [&ours[..], &small, &soon, &["auth.password=engine"]].concat();
    story.install_archive("kv", &tools::chart_archive("redis"), &values);

    let sql = "PGPASSWORD=engine psql -h 127.0.0.1 -U ada -tAc 'select current_database()' notes";
    assert_eq!(story.run("sql-postgresql-0", "postgresql", sql).await.trim(), "notes");
    let set = "redis-cli -a engine --no-auth-warning set a 1";
    assert_eq!(story.run("kv-redis-master-0", "redis", set).await.trim(), "OK");
}

#[tokio::test]
async fn one_chart_phones_home_and_another_is_quiet() {
    let story = Story::new("curious", &[workloads::CURIOUS, workloads::QUIET]).await;
    let image = format!("image.registry={}", story.registry.host());

    for chart in ["quiet", "phones-home"] {
        story.install(chart, &[&image]);
    }

    let pods = story.pods().await;
    let address = |name: &str| {
        let is_it = |pod: &&Pod| pod.metadata.name.as_ref().unwrap().contains(name);
        pods.iter().find(is_it).unwrap().status.as_ref().unwrap().pod_ip.clone().unwrap()
    };
    let called = format!("src={} dst=203.0.113.7", address("phones-home"));
    wait_until("a call home is seen", || connections(&story.here).contains(&called));
    assert!(!connections(&story.here).contains(&format!("src={} dst=203", address("quiet"))));
}

// --- the story ----------------------------------------------------------------------------------

/// A namespace, and a registry that has the images of the cluster tests.
struct Story {
    here: TestCluster,
    cluster: cluster::Cluster,
    registry: TestRegistry,
    charts: tempfile::TempDir,
    space: TestNamespace,
    _trust: RegistryTrust,
}

impl Story {
    async fn new(name: &str, images: &[&str]) -> Self {
        let here = TestCluster::from_environment();
        let registry = TestRegistry::builder().address(here.host()).start();
        TestImages::cluster().select(images).place_in_storage(registry.storage());
        Self {
            cluster: here.connect().await,
            space: here.create_namespace(&format!("workloads-{name}")),
            _trust: here.trust_registry(&registry),
            charts: tempfile::tempdir().unwrap(),
            registry,
            here,
        }
    }

    fn name(&self) -> &str {
        self.space.name()
    }

    /// A claim with what is in a folder.
    async fn claim(&self, name: &str, class: &str, folder: &Path) {
        let mode = if class == "shared-path" { "ReadWriteMany" } else { "ReadWriteOnce" };
        let claim: Box<PersistentVolumeClaim> = from_value(json!({"metadata": {"name": name},
            "spec": {"storageClassName": class, "accessModes": [mode],
                "resources": {"requests": {"storage": "200Mi"}}}}))
        .unwrap();
        self.cluster.apply_object(ObjectScope::Namespace(self.name()), &*claim).await.unwrap();
        let loader = loader(&self.here.image_name("busybox"), name);
        self.cluster.start_pod(self.name(), &loader).await.unwrap();
        self.cluster
            .wait_for_pod(self.name(), "loader", AwaitedPodState::Ready, TIMEOUT)
            .await
            .unwrap();
        let tar =
            tools::tool_command("tar").args(["c", "-C"]).arg(folder).arg(".").output().unwrap();
        let length = tar.stdout.len();
        let script = format!("head -c {length} | tar x -o -C /data");
        let command = ["sh", "-c", &script];
        let filling =
            self.cluster.run_program(self.name(), "loader", "main", &command, &tar.stdout);
        let outcome = Box::pin(filling).await.unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        self.cluster.remove_pod(self.name(), "loader").await.unwrap();
    }

    /// Installs one of the small charts as the release `test` (or by its name, when there are more)
    /// and waits until all is ready.
    fn install(&self, chart: &str, values: &[&str]) {
        let archive = charts::package_chart(chart, self.charts.path());
        let release = if ["quiet", "phones-home"].contains(&chart) { chart } else { "test" };
        self.install_archive(release, &archive, values);
    }

    fn install_archive(&self, release: &str, archive: &PathBuf, values: &[&str]) {
        let mut helm = tools::tool_command("helm");
        helm.args(["install", release]).arg(archive).args(["--namespace", self.name()]);
        helm.arg("--kubeconfig").arg(self.here.kubeconfig());
        helm.args(["--wait", "--timeout", "300s"]);
        for value in values {
            // All as text: a number would be no environment variable's value.
            helm.args([if value.contains("extraEnv") { "--set-string" } else { "--set" }, value]);
        }
        tools::run_command(&mut helm);
    }

    /// A POST to a Service's pod and its JSON answer.
    async fn ask(&self, service: &str, port: u16, path: &str, question: &Value) -> Value {
        let target = ForwardTarget::Service(service.to_owned());
        let forward = self.cluster.forward_port(self.name(), &target, port).await.unwrap();
        let url = format!("http://{}{path}", forward.address);
        let answer = reqwest::Client::new().post(url).json(question).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        cluster::objects::serde_json::from_str(&text).unwrap()
    }

    /// What a shell in a pod says.
    async fn run(&self, pod: &str, container: &str, script: &str) -> String {
        let command = ["sh", "-c", script];
        let outcome =
            self.cluster.run_program(self.name(), pod, container, &command, b"").await.unwrap();
        assert_eq!(outcome.code, 0, "{script}: {}{}", outcome.stdout, outcome.stderr);
        outcome.stdout
    }

    async fn pods(&self) -> Vec<Pod> {
        self.cluster.list_objects::<Pod>(ObjectScope::Namespace(self.name()), "").await.unwrap()
    }
}

/// A pod that waits, with a claim at `/data`.
fn loader(image: &str, claim: &str) -> Box<Pod> {
    let mut loader = pod("loader", image, &["sleep", "600"]);
    let spec = loader.spec.as_mut().unwrap();
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}});
    spec.volumes = Some(vec![from_value(volume).unwrap()]);
    let mount = json!({"name": "data", "mountPath": "/data"});
    spec.containers[0].volume_mounts = Some(vec![from_value(mount).unwrap()]);
    loader
}

/// A pod of one container within pod security `restricted`.
fn pod(name: &str, image: &str, command: &[&str]) -> Box<Pod> {
    let mut pod: Box<Pod> = from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": image, "command": command,
                "imagePullPolicy": "IfNotPresent", "securityContext":
                    {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}
    }))
    .unwrap();
    mark_as_own(&mut pod.metadata, "test");
    pod
}

fn phase(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
}

/// The connections that the nodes know, one a line.
fn connections(here: &TestCluster) -> String {
    let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/cluster");
    let list = |node: String| {
        let mut command = std::process::Command::new(&dev);
        tools::run_command(command.args(["node", &node, "cat", "/proc/net/nf_conntrack"]))
    };
    here.node_names().into_iter().map(list).collect()
}

fn vector(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
