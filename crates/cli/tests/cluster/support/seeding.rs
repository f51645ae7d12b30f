//! Shared by the tests of models in a cluster: a site whose registry has Gantry's image, a user with a
//! model in the store, and pods that read what was pushed.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "each story uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster::objects::api::core::v1::{self, PersistentVolume, PersistentVolumeClaim, Pod};
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{AwaitedPodState, Cluster as Client, ObjectScope, mark_as_own};
use testkit::{
    Gantry, RegistryTrust, TestCluster, TestEnvironment, TestNamespace, TestRegistry, tools,
};

use crate::story::{self, text};

const TIMEOUT: Duration = Duration::from_mins(5);
/// The node that has the small disks.
const NODE: &str = "node1";
pub(crate) const WEIGHTS: &str = "model.safetensors";
const INPUT: &str = "\
version: 1
name: models
models: [{hf: sentence-transformers/all-MiniLM-L6-v2}]
";

/// A site with a registry that has Gantry's image, and a user with a model.
pub(crate) struct Site {
    pub(crate) cluster: TestCluster,
    pub(crate) namespace: TestNamespace,
    pub(crate) gantry: Gantry,
    pub(crate) registry: TestRegistry,
    _trust: RegistryTrust,
    world: TestEnvironment,
}

impl Site {
    /// A site in its own namespace, which enforces the Pod Security level `restricted`.
    pub(crate) fn new(story: &str) -> Self {
        let cluster = TestCluster::from_environment();
        let namespace = cluster.create_namespace(story);
        let world = TestEnvironment::fast();
        let registry = TestRegistry::builder().address(cluster.host()).start();
        let trust = cluster.trust_registry(&registry);
        let gantry = story::fetched(&world, INPUT).in_cluster(&cluster);
        let host = registry.host();
        let site = format!(
            "version: 1\ncontext: {}\nregistry:\n  url: {host}\n  plainHttp: true\n",
            context(&cluster)
        );
        gantry.write_file("site.yaml", &site);
        let own = world.gantry(tools::static_gantry_path()).with_store(&world.home().join("own"));
        own.run(["image"]).assert_success();
        own.run(["load", &text(own.store()), "--to", host, "--plain-http"]).assert_success();
        Self { cluster, namespace, gantry, registry, _trust: trust, world }
    }

    /// Loads the models into the site's registry too.
    pub(crate) fn load(&self) {
        let store = text(self.gantry.store());
        self.gantry.run(["load", &store, "--site", "site.yaml"]).assert_success();
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
    pub(crate) fn with<T>(&self, work: impl AsyncFnOnce(&Client, ObjectScope<'_>) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = self.cluster.connect().await;
            work(&client, ObjectScope::Namespace(self.namespace.name())).await
        })
    }

    /// Runs a busybox script in a pod that mounts claims read-only at `/NAME` as another user, and returns
    /// what it printed.
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
            client
                .wait_for_pod(namespace, "reader", AwaitedPodState::Ended, TIMEOUT)
                .await
                .unwrap();
            let log = client.read_logs(namespace, "reader", None, None).await.unwrap();
            client.remove_pod(namespace, "reader").await.unwrap();
            log
        })
    }

    /// A busybox pod that fulfils the level `restricted`.
    pub(crate) fn pod(&self, name: &str, volumes: Value, mounts: Value, script: &str) -> Pod {
        let mut pod: Pod = from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "volumes": volumes,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 4711,
                    "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "main", "image": self.cluster.image_name("busybox"),
                    "imagePullPolicy": "Never", "command": ["sh", "-c", script],
                    "volumeMounts": mounts,
                    "securityContext": {"allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]}}}]}
        }))
        .unwrap();
        mark_as_own(&mut pod.metadata, "test");
        pod
    }

    /// The existing seeder pods.
    pub(crate) fn seeders(&self) -> Vec<String> {
        self.with(async |client, scope| {
            let pods = client.list_objects::<Pod>(scope, "gantry.dev/part=seeder").await.unwrap();
            pods.into_iter().filter_map(|pod| pod.metadata.name).collect()
        })
    }

    /// Whether a claim exists.
    pub(crate) fn has_claim(&self, name: &str) -> bool {
        self.with(async |client, scope| {
            client.get_object::<PersistentVolumeClaim>(scope, name).await.unwrap().is_some()
        })
    }
}

impl Site {
    /// The folder on this machine that backs a claim's volume, which is on one of the nodes.
    pub(crate) fn folder(&self, claim: &str) -> PathBuf {
        let path = self.with(async |client, scope| {
            let claim = client.get_object::<PersistentVolumeClaim>(scope, claim).await.unwrap()?;
            let name = claim.spec?.volume_name?;
            let volume = client
                .get_object::<PersistentVolume>(ObjectScope::Cluster, &name)
                .await
                .unwrap()?;
            let spec = volume.spec?;
            let place = json!(spec.node_affinity).to_string();
            let is_it = |node: &String| place.contains(&format!("\"{node}\""));
            let node = self.cluster.node_names().into_iter().find(is_it)?;
            let path = spec.host_path.map(|it| it.path).or(spec.local.map(|it| it.path))?;
            Some((node, path))
        });
        match path {
            Some((node, path)) => {
                self.cluster.node_folder(&node).join(path.trim_start_matches('/'))
            }
            None => PathBuf::from("/nonexistent"),
        }
    }

    /// The size of partial files in a claim's volume.
    pub(crate) fn written(&self, claim: &str) -> u64 {
        let parts = self.folder(claim).join(".gantry/parts");
        story::files(&parts).iter().map(|(_, size)| size).sum()
    }

    /// Whether a folder exists in the volume.
    pub(crate) fn is_shown(&self, claim: &str, folder: &str) -> bool {
        self.folder(claim).join(folder).join("refs").exists()
    }

    /// Deletes the seeder pods, as an eviction would.
    pub(crate) fn delete_seeders(&self) {
        for name in self.seeders() {
            self.with(async |client, _| {
                client.remove_pod(self.namespace.name(), &name).await.unwrap();
            });
        }
    }

    /// A user without any rights.
    pub(crate) fn as_nobody(&self) -> Gantry {
        let text = fs::read_to_string(self.cluster.kubeconfig()).unwrap();
        let text = text.replacen("user: {", "user: {as: nobody, ", 1);
        assert!(text.contains("as: nobody"), "the kubeconfig has a user");
        let file = self.gantry.write_file("nobody.kubeconfig", &text);
        let gantry = Gantry::new(story::BINARY, self.world.home());
        gantry.with_store(self.gantry.store()).env("KUBECONFIG", file)
    }

    /// A namespace in which pods may mount a node's disk.
    pub(crate) fn privileged(&self, story: &str) -> TestNamespace {
        let namespace = self.cluster.reserve_namespace(story);
        let mut object: v1::Namespace = from_value(json!({"metadata": {"name": namespace.name(),
            "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}))
        .unwrap();
        mark_as_own(&mut object.metadata, "test");
        self.with(async |client, _| {
            client.apply_object(ObjectScope::Cluster, &object).await.unwrap()
        });
        namespace
    }

    /// A ReadWriteOnce claim, and another pod that mounts it.
    pub(crate) fn holds(&self, claim: &str) {
        let object: PersistentVolumeClaim = from_value(json!({
            "metadata": {"name": claim},
            "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}))
        .unwrap();
        let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
        let mounts = json!([{"name": "data", "mountPath": "/data"}]);
        let mut pod =
            self.pod("server", volumes, mounts, "trap exit TERM; while :; do sleep 1; done");
        pod.metadata.labels = None;
        self.with(async |client, scope| {
            client.create_object(scope, &object).await.unwrap();
            client.create_object(scope, &pod).await.unwrap();
            let namespace = self.namespace.name();
            client
                .wait_for_pod(namespace, "server", AwaitedPodState::Running, TIMEOUT)
                .await
                .unwrap();
        });
    }

    /// A claim whose volume is a disk of this size on the node; deleted on drop.
    pub(crate) fn small_claim(&self, claim: &str, bytes: u64) -> Disk {
        let name = format!("{}-{claim}", self.namespace.name());
        let folder = format!("/var/lib/{name}");
        let mount =
            format!("mkdir -p {folder} && mount -t tmpfs -o mode=0777,size={bytes} tmpfs {folder}");
        on_node(&mount);
        let request = json!({"storage": "1Gi"});
        let mut volume: PersistentVolume = from_value(json!({
            "metadata": {"name": name},
            "spec": {"capacity": request, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}]}},
                "claimRef": {"namespace": self.namespace.name(), "name": claim}}}))
        .unwrap();
        mark_as_own(&mut volume.metadata, "test");
        let claim: PersistentVolumeClaim = from_value(json!({
            "metadata": {"name": claim},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "volumeName": name, "resources": {"requests": request}}}))
        .unwrap();
        self.with(async |client, scope| {
            client.apply_object(ObjectScope::Cluster, &volume).await.unwrap();
            client.apply_object(scope, &claim).await.unwrap();
        });
        Disk { name, folder, cluster: self.cluster.clone() }
    }
}

/// A small disk of the node and the volume on it.
pub(crate) struct Disk {
    name: String,
    folder: String,
    cluster: TestCluster,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = self.cluster.connect().await;
            let _ =
                client.delete_object::<PersistentVolume>(ObjectScope::Cluster, &self.name).await;
        });
        on_node(&format!("umount -l {0}; rmdir {0}", self.folder));
    }
}

/// Runs a script in [`NODE`].
fn on_node(script: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("dev/cluster"));
    tools::run_command(command.args(["node", NODE, "sh", "-ec", script]));
}

/// The sha256 of a file of the model, as `sha256sum` prints it.
pub(crate) fn sum(file: &str) -> String {
    let mut command = tools::tool_command("sha256sum");
    let printed = tools::run_command(command.arg(tools::model_folder().join(file)));
    printed.split_whitespace().next().unwrap().to_owned()
}

/// The context of the kubeconfig.
fn context(cluster: &TestCluster) -> String {
    let text = fs::read_to_string(cluster.kubeconfig() as &Path).unwrap();
    let line = text.lines().find(|line| line.starts_with("current-context:")).unwrap();
    line.trim_start_matches("current-context:").trim().trim_matches('"').to_owned()
}
