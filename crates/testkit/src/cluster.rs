//! The real Kubernetes of `dev/cluster`, as the tests of `make test-cluster` use it: its addresses,
//! registries that its nodes trust, and namespaces that are deleted when a test ends.

use std::env;
use std::fs;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cluster::objects::api::core::v1;
use cluster::objects::serde_json::{from_value, json};
use cluster::{ClusterAccess, ObjectScope, mark_as_own};

use crate::registry::TestRegistry;

/// What a test says where there is no cluster.
const MISSING: &str = "there is no cluster; run: make test-cluster, or: . <(dev/cluster env)";

/// The cluster that is up.
#[derive(Debug, Clone)]
pub struct TestCluster {
    kubeconfig: PathBuf,
    host: IpAddr,
    nodes: PathBuf,
    images: String,
}

/// Nodes that know how to reach a registry; on drop they know no more.
#[derive(Debug)]
pub struct RegistryTrust {
    files: Vec<PathBuf>,
}

/// A namespace of one test; deleted on drop.
#[derive(Debug)]
pub struct TestNamespace {
    name: String,
    cluster: TestCluster,
}

impl TestCluster {
    /// The cluster that `dev/cluster env` tells of.
    ///
    /// # Panics
    /// When there is none: a missing cluster is a failure, never a skipped test.
    pub fn from_environment() -> Self {
        let variable = |name| env::var(name).expect(MISSING);
        Self {
            kubeconfig: variable("KUBECONFIG").into(),
            host: variable("GANTRY_CLUSTER_HOST").parse().expect("it is an address"),
            nodes: variable("GANTRY_CLUSTER_NODES").into(),
            images: variable("GANTRY_CLUSTER_IMAGES"),
        }
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The address of this machine that pods and nodes reach: for
    /// [`crate::TestRegistryBuilder::address`].
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// Names of images that every node has (`busybox`, `pause`), to be used with `Never`.
    pub fn image_name(&self, name: &str) -> String {
        format!("{}/{name}:1", self.images)
    }

    /// The names of the nodes, sorted.
    pub fn node_names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("a folder can be read").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = fs::read_dir(&self.nodes).expect(MISSING).map(name).collect();
        names.sort();
        names
    }

    /// The folder that is a node's `/`.
    pub fn node_folder(&self, name: &str) -> PathBuf {
        self.nodes.join(name).join("root")
    }

    /// The folders that are the nodes' `/`.
    pub fn node_folders(&self) -> Vec<PathBuf> {
        self.node_names().iter().map(|name| self.node_folder(name)).collect()
    }

    /// Lets all nodes pull from a registry: by plain http, or with its authority
    /// (containerd, docs/hosts.md).
    pub fn trust_registry(&self, registry: &TestRegistry) -> RegistryTrust {
        let mut files = Vec::new();
        for node in self.node_folders() {
            let folder = node.join("etc/containerd/certs.d").join(registry.host());
            fs::create_dir_all(&folder).expect("a node's folder can be made");
            let mut text = format!(
                "[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
                registry.url()
            );
            if let Some(ca) = registry.ca_file() {
                fs::copy(ca, folder.join("ca.crt")).expect("a certificate can be copied");
                let inside = format!("/etc/containerd/certs.d/{}/ca.crt", registry.host());
                text.push_str(&format!("  ca = \"{inside}\"\n"));
            }
            fs::write(folder.join("hosts.toml"), text).expect("a hosts.toml can be written");
            files.push(folder);
        }
        RegistryTrust { files }
    }

    /// Creates a namespace for this test, with pod security `restricted` enforced.
    pub fn create_namespace(&self, story: &str) -> TestNamespace {
        let namespace = self.reserve_namespace(story);
        let mut object: v1::Namespace = from_value(json!({"metadata": {
            "name": namespace.name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}))
        .expect("a namespace is made of JSON");
        mark_as_own(&mut object.metadata, "test");
        let this = self.clone();
        run_to_end(async move {
            let cluster = this.connect().await;
            cluster
                .apply_object(ObjectScope::Cluster, &object)
                .await
                .expect("a namespace can be made");
        });
        namespace
    }

    /// A name for a namespace that the test itself creates; deleted on drop as well.
    pub fn reserve_namespace(&self, story: &str) -> TestNamespace {
        let name = format!("{story}-{}", std::process::id());
        TestNamespace { name, cluster: self.clone() }
    }

    /// A client of it, for what a test looks at itself.
    pub async fn connect(&self) -> cluster::Cluster {
        let access =
            ClusterAccess { kubeconfig: Some(self.kubeconfig.clone()), ..ClusterAccess::default() };
        cluster::Cluster::connect(&access).await.expect(MISSING)
    }
}

impl TestNamespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let (name, cluster) = (self.name.clone(), self.cluster.clone());
        run_to_end(async move {
            // What cannot be deleted now goes with the cluster.
            let _ = cluster
                .connect()
                .await
                .delete_object::<v1::Namespace>(ObjectScope::Cluster, &name)
                .await;
        });
    }
}

impl Drop for RegistryTrust {
    fn drop(&mut self) {
        for folder in &self.files {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Runs async work to its end, wherever the caller stands: on a thread of its own, so that a
/// runtime around it does not matter.
fn run_to_end(work: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let done = std::thread::spawn(move || runtime.block_on(work)).join();
    assert!(done.is_ok() || std::thread::panicking(), "the cluster's work panicked, see above");
}
