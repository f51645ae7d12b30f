//! Shared by the tests of policies and of the webhook: a cluster whose nodes trust the site's registry,
//! which contains what a user has locked.

use cluster::objects::api::core::v1::Pod;
use cluster::objects::serde_json::{Value, from_value, json};
use cluster::{ApplyMode, AwaitedPodState, Cluster, Error, ObjectId, ObjectScope};
use std::time::Duration;
use testkit::{Gantry, TestEnvironment, TestImages, TestRegistry, tools};

use crate::story::{BINARY, text};

/// How long a pod may take to start; its image may be pulled on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(5);
/// The one image that is locked, beside Gantry's own.
pub(crate) const LOCKED: &str = "docker.io/library/busybox:1.35";

/// The cluster, the registry and the user of a test.
pub(crate) struct Ground {
    pub(crate) here: testkit::TestCluster,
    pub(crate) world: TestEnvironment,
    pub(crate) gantry: Gantry,
    _trust: testkit::RegistryTrust,
}

impl Ground {
    /// Locks, fetches and loads the image and Gantry's own into a registry that the nodes trust, and
    /// writes `site.yaml`, `gantry.lock` and `receipt.json`.
    pub(crate) fn new() -> Self {
        let here = testkit::TestCluster::from_environment();
        let site = TestRegistry::builder().address(here.host());
        let world = TestEnvironment::from_parts(
            TestImages::fast(),
            TestRegistry::builder(),
            testkit::TestHub::builder(),
        );
        let world = world.with_site(site);
        let trust = here.trust_registry(world.site());
        let gantry = world.gantry(BINARY).in_cluster(&here);
        gantry.write_file(
            "gantry.yaml",
            &format!(
                "version: 1\nname: guard\nplatforms: [linux/amd64]\nimages: [{LOCKED}]\n\
                 tools: [{{gantry: ['{}']}}]\n",
                tools::static_gantry_path().display()
            ),
        );
        gantry.write_file(
            "site.yaml",
            &format!(
                "version: 1\nregistry: {{url: '{}/ai', plainHttp: true}}\ncontext: {}\n",
                world.site().host(),
                CONTEXT
            ),
        );
        gantry.run(["lock"]).assert_success();
        gantry.run(["fetch"]).assert_success();
        let store = text(gantry.store());
        let load = ["load", &store, "--site", "site.yaml", "--receipt", "receipt.json"];
        gantry.run(load).assert_success();
        Self { here, world, gantry, _trust: trust }
    }

    /// The name of the locked image at the site.
    pub(crate) fn at_site(&self) -> String {
        format!("{}/ai/library/busybox:1.35", self.world.site().host())
    }

    /// The digest that the site's registry has for it.
    pub(crate) fn digest(&self) -> String {
        let receipt: Value =
            cluster::objects::serde_json::from_str(&self.gantry.read_file("receipt.json")).unwrap();
        let roots = receipt["roots"].as_array().unwrap();
        let held = roots.iter().find(|held| held["name"] == LOCKED).unwrap();
        let digest = held.get("rewritten").unwrap_or(&held["digest"]);
        digest.as_str().unwrap().to_owned()
    }

    /// A locked image at another registry, under a name that was not locked.
    pub(crate) fn foreign(&self) -> String {
        format!("{}/library/redis:7.0", self.world.upstream().host())
    }
}

/// The context of dev/cluster's kubeconfig.
pub(crate) const CONTEXT: &str = "gantry";

/// A pod that sleeps and fulfils the Pod Security level `restricted`.
pub(crate) fn pod(name: &str, image: &str) -> Pod {
    pod_of(name, spec(image))
}

/// A pod with this spec, labelled as a test object so that it may be deleted.
pub(crate) fn pod_of(name: &str, spec: Value) -> Pod {
    let mut pod: Pod = from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    cluster::mark_as_own(&mut pod.metadata, "test");
    pod
}

/// Its spec.
pub(crate) fn spec(image: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container("main", image)],
    })
}

/// One of its containers.
pub(crate) fn container(name: &str, image: &str) -> Value {
    json!({
        "name": name,
        "image": image,
        "command": ["/bin/busybox", "sleep", "600"],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

/// Creates a pod, and deletes it again if it was admitted.
pub(crate) async fn try_pod(cluster: &Cluster, namespace: &str, pod: &Pod) -> Result<Pod, Error> {
    let made = cluster.create_object(ObjectScope::Namespace(namespace), pod).await?;
    cluster.remove_pod(namespace, made.metadata.name.as_deref().unwrap()).await.unwrap();
    Ok(made)
}

/// The reason why a pod is refused.
pub(crate) async fn refused(cluster: &Cluster, namespace: &str, pod: &Pod) -> String {
    match try_pod(cluster, namespace, pod).await {
        Err(error) => error.to_string(),
        Ok(pod) => panic!("it was admitted: {:?}", pod.spec),
    }
}

/// Creates a pod and waits until it runs.
pub(crate) async fn runs(cluster: &Cluster, namespace: &str, pod: &Pod) -> Pod {
    cluster.create_object(ObjectScope::Namespace(namespace), pod).await.unwrap();
    let name = pod.metadata.name.as_deref().unwrap();
    cluster.wait_for_pod(namespace, name, AwaitedPodState::Running, TIMEOUT).await.unwrap()
}

/// The images of a pod's main containers.
pub(crate) fn image(pod: &Pod) -> String {
    pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap()
}

/// Applies manifests.
pub(crate) async fn apply(cluster: &Cluster, namespace: &str, manifests: &Value) {
    for manifest in manifests.as_array().unwrap() {
        cluster.apply_manifest(manifest, namespace, ApplyMode::Apply).await.unwrap();
    }
}

/// Polls until the condition holds.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < TIMEOUT, "it did not come: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs async work to its end in a `drop`, on a thread of its own.
pub(crate) fn finish(work: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = std::thread::spawn(move || runtime.block_on(work)).join();
}

/// Cluster-wide objects that are deleted when the test ends, however it ends.
pub(crate) struct Gone {
    ids: Vec<ObjectId>,
    here: testkit::TestCluster,
}

impl Gone {
    /// Those of these manifests that are in no namespace.
    pub(crate) fn new(ground: &Ground, manifests: &Value) -> Self {
        Self::of_cluster(&ground.here, manifests)
    }

    /// The same without a [`Ground`].
    pub(crate) fn of_cluster(here: &testkit::TestCluster, manifests: &Value) -> Self {
        let ids = manifests.as_array().unwrap().iter().filter_map(|manifest| {
            let mut id = ObjectId::from_manifest(manifest, "").unwrap();
            id.namespace.take().filter(String::is_empty)?;
            Some(id)
        });
        Self { ids: ids.collect(), here: here.clone() }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let (ids, here) = (std::mem::take(&mut self.ids), self.here.clone());
        finish(async move {
            let cluster = here.connect().await;
            for id in ids {
                let _ = cluster.delete_manifest(&id).await;
            }
        });
    }
}
