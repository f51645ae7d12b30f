//! What the stories of models in a cluster share: a site whose registry has Gantry's image, a user
//! with a model in the store, and pods that read what was put.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "each story uses a part")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{Cluster as Client, Scope, Until, own};
use testkit::{Cluster, Gantry, Namespace, Registry, Trust, World, tools};

use crate::story::{self, text};

const TIMEOUT: Duration = Duration::from_secs(120);
pub(crate) const WEIGHTS: &str = "model.safetensors";
const INPUT: &str = "\
version: 1
name: models
models: [{hf: sentence-transformers/all-MiniLM-L6-v2}]
";

/// A site with a registry that has Gantry's image, and a user who brought a model.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) namespace: Namespace,
    pub(crate) gantry: Gantry,
    pub(crate) registry: Registry,
    _trust: Trust,
    _world: World,
}

impl Site {
    /// A site in a namespace of this story's own, with pod security `restricted` enforced.
    pub(crate) fn new(story: &str) -> Self {
        let cluster = Cluster::here();
        let namespace = cluster.namespace(story);
        let world = World::fast();
        let registry = Registry::builder().address(cluster.host()).start();
        let trust = cluster.trusts(&registry);
        let gantry = story::fetched(&world, INPUT).in_cluster(&cluster);
        let host = registry.host();
        let site = format!("version: 1\ncontext: {}\nregistry:\n  url: {host}\n  plainHttp: true\n", context(&cluster));
        gantry.write("site.yaml", &site);
        let own = world.gantry(tools::static_gantry()).with_store(&world.home().join("own"));
        own.run(["image"]).success();
        own.run(["load", &text(own.store()), "--to", host, "--plain-http"]).success();
        Self { cluster, namespace, gantry, registry, _trust: trust, _world: world }
    }

    /// Puts the models into the site's registry as well.
    pub(crate) fn load(&self) {
        let store = text(self.gantry.store());
        self.gantry.run(["load", &store, "--site", "site.yaml"]).success();
    }

    /// `pvc://NAMESPACE/CLAIM`.
    pub(crate) fn claim(&self, name: &str) -> String {
        format!("pvc://{}/{name}", self.namespace.name())
    }

    /// The arguments of a push from the store to this target.
    pub(crate) fn push(&self, to: &str, more: &[&str]) -> Vec<String> {
        let store = text(self.gantry.store());
        let arguments = ["models", "push", &store, "--site", "site.yaml", "--to", to];
        arguments.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// Runs with a client of the cluster.
    pub(crate) fn with<T>(&self, work: impl AsyncFnOnce(&Client, Scope<'_>) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = self.cluster.connect().await;
            work(&client, Scope::Namespace(self.namespace.name())).await
        })
    }

    /// Runs a script of busybox in a pod that has claims mounted at `/NAME`, as a stranger who only
    /// reads; what it printed.
    pub(crate) fn reads(&self, claims: &[&str], script: &str) -> String {
        let volumes: Vec<Value> = claims
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        self.runs(&volumes, claims, script)
    }

    /// As [`Self::reads`], with any volumes.
    pub(crate) fn runs(&self, volumes: &[Value], names: &[&str], script: &str) -> String {
        let mounts: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "mountPath": format!("/{name}"), "readOnly": true}))
            .collect();
        let pod = self.pod("reader", json!(volumes), json!(mounts), script);
        self.with(async |client, _| {
            let namespace = self.namespace.name();
            client.start_pod(namespace, &pod).await.unwrap();
            client.wait_pod(namespace, "reader", Until::Ended, TIMEOUT).await.unwrap();
            let log = client.logs(namespace, "reader", None, None).await.unwrap();
            client.remove_pod(namespace, "reader").await.unwrap();
            log
        })
    }

    /// A pod of busybox that restricted pod security lets in.
    pub(crate) fn pod(&self, name: &str, volumes: Value, mounts: Value, script: &str) -> Pod {
        let mut pod: Pod = from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "volumes": volumes,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 4711,
                    "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "main", "image": self.cluster.image("busybox"),
                    "imagePullPolicy": "Never", "command": ["sh", "-c", script],
                    "volumeMounts": mounts,
                    "securityContext": {"allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]}}}]}
        }))
        .unwrap();
        own(&mut pod.metadata, "test");
        pod
    }

    /// The seeder pods that are there.
    pub(crate) fn seeders(&self) -> Vec<String> {
        self.with(async |client, scope| {
            let pods = client.list::<Pod>(scope, "gantry.dev/part=seeder").await.unwrap();
            pods.into_iter().filter_map(|pod| pod.metadata.name).collect()
        })
    }

    /// Whether a claim is there.
    pub(crate) fn has_claim(&self, name: &str) -> bool {
        self.with(async |client, scope| {
            client.get::<PersistentVolumeClaim>(scope, name).await.unwrap().is_some()
        })
    }
}

/// The sha256 of a file of the model, as `sha256sum` prints it.
pub(crate) fn sum(file: &str) -> String {
    let mut command = tools::command("sha256sum");
    let printed = tools::run(command.arg(tools::model().join(file)));
    printed.split_whitespace().next().unwrap().to_owned()
}

/// The context of the kubeconfig.
fn context(cluster: &Cluster) -> String {
    let text = fs::read_to_string(cluster.kubeconfig() as &Path).unwrap();
    let line = text.lines().find(|line| line.starts_with("current-context:")).unwrap();
    line.trim_start_matches("current-context:").trim().trim_matches('"').to_owned()
}
