//! Models on the nodes' own disks: `node:///var/lib/models[?selector=KEY=VALUE&namespace=NAME]`. A
//! DaemonSet runs one seeder on each node, which writes a folder of the node's disk as a claim's
//! seeder writes its volume.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cluster::objects::api::apps::v1::DaemonSet;
use cluster::objects::api::core::v1::{Namespace, Pod};
use cluster::objects::serde_json::{from_value, json};
use cluster::{AwaitedPodState, ObjectScope, Permission, mark_as_own};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use store::Source;
use store::hash::sha256;
use tokio::time::{Duration, Instant, sleep};
use types::node_folder::NodeFolder;
use types::site::Site;

use super::error::{Error, Result};
use super::order::{SeederEvent, SeederOrder};
use super::pod::{self, VolumeUse};
use super::seeder::{Seeder, StartedWorkload};

/// The scheme of such a target's URL.
const SCHEME: &str = "node://";
/// The label by which the pods of a DaemonSet are found.
const SET: &str = "gantry.dev/set";
/// How many nodes are written at the same time. The bytes of all come from one registry or from this
/// process, so that more nodes at once would only make each of them slower.
const AT_ONCE: usize = 4;
/// How often the DaemonSet's status is read while it starts or ends.
const PERIOD: Duration = Duration::from_millis(500);

/// A folder on nodes' disks that the site allows models in: see [`NodePath::require_allowed`].
#[derive(Debug, Clone)]
pub struct AllowedNodePath<'a>(&'a NodePath);

/// A folder on nodes' disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePath {
    /// The folder: `/var/lib/models`.
    pub folder: NodeFolder,
    /// Labels that the nodes have to have; all nodes when empty.
    pub selector: BTreeMap<String, String>,
    /// The namespace that the seeders run in; the context's namespace when absent.
    pub namespace: Option<String>,
}

impl NodePath {
    /// Whether a target is written as a path on nodes.
    pub fn is_node_path(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The rights that loading, listing or verifying models on nodes needs.
    pub fn required_rights(namespace: &str) -> Vec<Permission> {
        let core = |verb, resource| Permission::new(verb, "", resource).in_namespace(namespace);
        let set = |verb| Permission::new(verb, "apps", "daemonsets").in_namespace(namespace);
        let mut rights = vec![core("get", "pods"), core("list", "pods")];
        rights.extend(["get", "create", "delete"].map(set));
        rights.extend(["get", "create"].map(|verb| core(verb, "pods/exec")));
        rights
    }

    /// Requires that site.yaml names the folder, or one that it is in, under `nodeFolders`. Whoever may
    /// start a seeder could otherwise read and write any folder of every node.
    pub fn require_allowed(&self, site: Option<&Site>) -> Result<AllowedNodePath<'_>> {
        let folders = site.map(|site| site.node_folders.as_slice()).unwrap_or_default();
        if folders.iter().any(|allowed| allowed.contains(&self.folder)) {
            return Ok(AllowedNodePath(self));
        }
        let why = match (site, folders) {
            (None, _) => "no site file says which folders of the nodes may be used".to_owned(),
            (_, []) => "site.yaml names no folders of the nodes".to_owned(),
            (_, folders) => {
                let names: Vec<&str> = folders.iter().map(NodeFolder::as_str).collect();
                format!("site.yaml allows only {} and what is below", names.join(", "))
            }
        };
        let next = match site {
            None => format!(
                "write nodeFolders: [{}] in site.yaml, and name it: --site site.yaml",
                self.folder
            ),
            Some(_) => {
                format!("if it is meant, add it in site.yaml: nodeFolders: [{}]", self.folder)
            }
        };
        Err(Error::invalid_input(self.to_string(), why, next))
    }

    fn daemon_set_name(&self) -> String {
        format!("gantry-seed-{}", sha256(self.to_string().as_bytes()).short_hex())
    }
}

impl FromStr for NodePath {
    type Err = types::Error;

    fn from_str(text: &str) -> types::Result<Self> {
        let invalid = |reason: &str| types::Error::Invalid {
            what: "node path",
            text: text.to_owned(),
            reason: format!("{reason}; write node:///FOLDER[?selector=KEY=VALUE&namespace=NAME]")
                .into(),
        };
        let rest =
            text.strip_prefix(SCHEME).ok_or_else(|| invalid("it does not start with node://"))?;
        let (folder, query) = rest.split_once('?').unwrap_or((rest, ""));
        let folder = folder.parse::<NodeFolder>().map_err(|error| match error {
            types::Error::Invalid { reason, .. } => {
                let reason = reason.to_string();
                // The rest says how a folder alone is written.
                invalid(reason.split(';').next().unwrap_or_default())
            }
            other => other,
        })?;
        let mut path = Self { folder, selector: BTreeMap::new(), namespace: None };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("namespace", name)) => path.namespace = Some(name.to_owned()),
                Some(("selector", terms)) => {
                    for term in terms.split(',') {
                        let (key, value) = term
                            .split_once('=')
                            .ok_or_else(|| invalid("its selector has a term without ="))?;
                        path.selector.insert(key.to_owned(), value.to_owned());
                    }
                }
                _ => return Err(invalid("it has an option other than selector and namespace")),
            }
        }
        Ok(path)
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.folder)?;
        let terms: Vec<String> =
            self.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if terms.is_empty() { Ok(()) } else { write!(f, "?selector={}", terms.join(",")) }
    }
}

impl Seeder {
    /// Runs an order on each node, in a folder of the node's disk, with one pod for each node. Returns
    /// the nodes by name, each with the last event of its pod. The first failure ends it.
    pub async fn run_order_on_nodes(
        &self,
        allowed: &AllowedNodePath<'_>,
        namespace: &str,
        usage: VolumeUse,
        order: &SeederOrder,
        source: Option<Arc<dyn Source>>,
    ) -> Result<Vec<(String, SeederEvent)>> {
        let path = allowed.0;
        // Only in the pod can be seen whether the folder is behind a link.
        let order = &SeederOrder { node_folder: Some(path.folder.clone()), ..order.clone() };
        self.check_host_paths_allowed(namespace).await?;
        let set = self.build_daemon_set(path, namespace, usage)?;
        let scope = ObjectScope::Namespace(namespace);
        let name = path.daemon_set_name();
        // A DaemonSet that a killed run left may have another image or selector, so it goes first. Its
        // pods have to be gone, too: two pods would write the same folder.
        if self.cluster().delete_own_object::<DaemonSet>(scope, &name).await? {
            self.wait_until_deleted(namespace, &name).await?;
        }
        self.track_started(StartedWorkload::DaemonSet(namespace.to_owned(), name.clone()));
        self.cluster().create_object(scope, &set).await?;
        let pods = self.wait_for_nodes(path, namespace, &name).await?;
        let order = &self.limit_order(order, pods.len().min(AT_ONCE) as u64);
        // Lazily: a node's session begins when one of the first has ended.
        let work = pods.into_iter().map(|node| {
            let (source, name) = (source.clone(), name.clone());
            async move {
                let what = format!("{path} on node {node}");
                let start = async || self.wait_for_running_pod(namespace, &name, &node).await;
                let mount = format!("{node}:{}", path.folder);
                let event = self
                    .run_order_with_retries(namespace, (&what, &mount), order, source, start)
                    .await?;
                Ok::<_, Error>((node, event))
            }
        });
        stream::iter(work).buffered(AT_ONCE).try_collect().await
    }

    /// Refuses a namespace whose Pod Security Standard forbids `hostPath` volumes (all but
    /// `privileged`), before a DaemonSet is made whose pods would never start.
    async fn check_host_paths_allowed(&self, namespace: &str) -> Result<()> {
        let found =
            match self.cluster().get_object::<Namespace>(ObjectScope::Cluster, namespace).await {
                // A user who may not read the namespace gets the API server's own error later.
                Err(cluster::Error::Forbidden { .. }) => return Ok(()),
                found => found?,
            };
        let what = format!("namespace {namespace}");
        let Some(found) = found else {
            let next = "create it, or name another one with ?namespace=NAME";
            return Err(Error::invalid_input(what, "it does not exist", next));
        };
        let labels = found.metadata.labels.unwrap_or_default();
        match labels.get("pod-security.kubernetes.io/enforce").map(String::as_str) {
            None | Some("privileged") => Ok(()),
            Some(level) => Err(Error::invalid_input(
                what,
                format!("its pod security is {level}, which forbids hostPath volumes"),
                "name a namespace with the label pod-security.kubernetes.io/enforce=privileged by ?namespace=NAME",
            )),
        }
    }

    /// The DaemonSet that runs a seeder on each node that the selector matches.
    fn build_daemon_set(
        &self,
        path: &NodePath,
        namespace: &str,
        usage: VolumeUse,
    ) -> Result<DaemonSet> {
        let kind = if usage == VolumeUse::Write { "DirectoryOrCreate" } else { "Directory" };
        let volume = json!({"hostPath": {"path": path.folder.as_str(), "type": kind}});
        let mut pod = pod::build_base_pod(self.image(), &volume, usage);
        let spec = &mut pod["spec"];
        // The API server accepts no other policy in a DaemonSet.
        spec["restartPolicy"] = json!("Always");
        // The kubelet makes the folder as root, and `fsGroup` has no effect on a hostPath volume.
        spec["securityContext"]["runAsNonRoot"] = json!(false);
        spec["securityContext"]["runAsUser"] = json!(0);
        // The selector says which nodes are meant; GPU nodes mostly have taints.
        spec["tolerations"] = json!([{"operator": "Exists"}]);
        spec["nodeSelector"] = json!(path.selector);
        let name = path.daemon_set_name();
        pod["metadata"] = json!({"labels": {SET: name}});
        let set = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {SET: name}}, "template": pod}});
        let fault = "this is a bug in Gantry, please report it";
        let mut set: DaemonSet = from_value(set)
            .map_err(|error| Error::invalid_input(path.to_string(), error, fault))?;
        mark_as_own(&mut set.metadata, "seeder");
        if let Some(spec) = &mut set.spec {
            mark_as_own(spec.template.metadata.get_or_insert_default(), "seeder");
        }
        Ok(set)
    }

    /// Waits until the DaemonSet has a pod for each of its nodes, and returns the nodes' names.
    async fn wait_for_nodes(
        &self,
        path: &NodePath,
        namespace: &str,
        name: &str,
    ) -> Result<Vec<String>> {
        let scope = ObjectScope::Namespace(namespace);
        let deadline = Instant::now() + self.timeout();
        loop {
            let set = self.cluster().get_object::<DaemonSet>(scope, name).await?;
            let status = set.as_ref().and_then(|set| set.status.clone()).unwrap_or_default();
            let generation = set.and_then(|set| set.metadata.generation);
            let is_seen = generation.is_some() && status.observed_generation >= generation;
            // Until the controller has seen this generation, its numbers are those of no DaemonSet: a
            // count of 0 does not mean yet that no node matches.
            let wanted = usize::try_from(status.desired_number_scheduled).unwrap_or(0);
            if is_seen && wanted == 0 {
                let next = "see the nodes' labels with: kubectl get nodes --show-labels";
                return Err(Error::invalid_input(
                    path.to_string(),
                    "no node has these labels",
                    next,
                ));
            }
            let mut nodes: Vec<String> = self
                .list_seeder_pods(namespace, name)
                .await?
                .into_iter()
                .map(|(node, _)| node)
                .collect();
            if is_seen && nodes.len() == wanted {
                nodes.sort();
                return Ok(nodes);
            }
            if Instant::now() > deadline {
                let why = format!("it has {} of its {wanted} pods", nodes.len());
                let what = format!("DaemonSet {namespace}/{name}");
                let warning = self.cluster().latest_warning(namespace, name).await;
                let next = warning.unwrap_or_else(|| {
                    format!("see its events: kubectl describe daemonset {name} -n {namespace}")
                });
                return Err(cluster::Error::NotReady { what, why, next }.into());
            }
            sleep(PERIOD).await;
        }
    }

    /// The pods of a DaemonSet that are not being deleted: the node and the pod's name.
    async fn list_seeder_pods(&self, namespace: &str, name: &str) -> Result<Vec<(String, String)>> {
        let scope = ObjectScope::Namespace(namespace);
        let pods = self.cluster().list_objects::<Pod>(scope, &format!("{SET}={name}")).await?;
        let living = pods.into_iter().filter(|pod| !cluster::is_being_deleted(pod));
        Ok(living.filter_map(|pod| Some((node_of_pod(&pod)?, pod.metadata.name?))).collect())
    }

    /// Waits until the pod of one node runs, and returns its name.
    async fn wait_for_running_pod(
        &self,
        namespace: &str,
        name: &str,
        node: &str,
    ) -> Result<String> {
        let deadline = Instant::now() + self.timeout();
        loop {
            let pods = self.list_seeder_pods(namespace, name).await?;
            if let Some((_, pod)) = pods.into_iter().find(|(at, _)| at == node) {
                self.cluster()
                    .wait_for_pod(namespace, &pod, AwaitedPodState::Running, self.timeout())
                    .await?;
                return Ok(pod);
            }
            if Instant::now() > deadline {
                let what = format!("the seeder of node {node}");
                let why = "the DaemonSet has no pod there".to_owned();
                let next = format!("see whether the node is Ready: kubectl get node {node}");
                return Err(cluster::Error::NotReady { what, why, next }.into());
            }
            sleep(PERIOD).await;
        }
    }

    /// Waits until a DaemonSet and all of its pods are gone.
    async fn wait_until_deleted(&self, namespace: &str, name: &str) -> Result<()> {
        let deadline = Instant::now() + self.timeout();
        let scope = ObjectScope::Namespace(namespace);
        while self.cluster().get_object::<DaemonSet>(scope, name).await?.is_some()
            || !self.list_seeder_pods(namespace, name).await?.is_empty()
        {
            if Instant::now() > deadline {
                let what = format!("DaemonSet {namespace}/{name}");
                let why = "it was deleted, but it or its pods are still there".to_owned();
                let next = "see whether its nodes are Ready: kubectl get nodes".to_owned();
                return Err(cluster::Error::NotReady { what, why, next }.into());
            }
            sleep(PERIOD).await;
        }
        Ok(())
    }
}

/// The node that a pod runs on; `None` while it is not scheduled.
fn node_of_pod(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_path_is_read_and_a_folder_of_the_system_refused() {
        let text = "node:///var/lib/models?selector=gpu=yes,zone=a";
        let path: NodePath = text.parse().unwrap();
        assert_eq!(
            (path.folder.as_str(), path.selector["zone"].as_str()),
            ("/var/lib/models", "a")
        );
        assert_eq!(path.to_string(), text);
        let wrong = [
            "node:///",
            "node:///etc/models",
            "node:///var/lib",
            "node:///models",
            "node://var/lib/x",
            "node:///var/../etc/x",
            "node:///var/lib/x?what=1",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<NodePath>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_and_namespace_are_read_in_any_order() {
        let path: NodePath =
            "node:///srv/models/?namespace=seed&selector=b=2,a=x=y".parse().unwrap();
        assert_eq!(path.folder.as_str(), "/srv/models");
        assert_eq!(path.namespace.as_deref(), Some("seed"));
        let labels = [("a", "x=y"), ("b", "2")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(path.selector, labels.into());
        assert_eq!(path.to_string(), "node:///srv/models?selector=a=x=y,b=2");
    }

    #[test]
    fn each_refusal_says_how_a_node_path_is_written() {
        for (text, reason) in [
            ("/var/lib/models", "does not start with node://"),
            ("node://var/lib", "its folder does not start with /"),
            ("node:///var/lib/x?selector=gpu", "a term without ="),
            ("node:///var/lib/x?selector", "an option other than selector and namespace"),
            ("node:///usr", "belongs to the system"),
            ("node:///proc/1/root", "belongs to the system"),
            ("node:///var/lib/kubelet/pods", "belongs to the system"),
            ("node:///var//x", "its folder has an empty segment"),
        ] {
            let error = text.parse::<NodePath>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("write node:///FOLDER"), "{error}");
        }
        // Only whole names belong to the system.
        assert!("node:///data/etc".parse::<NodePath>().is_ok());
        assert!("node:///libs/models".parse::<NodePath>().is_ok());
    }

    #[test]
    fn only_folders_that_the_site_names_are_used() {
        let path: NodePath = "node:///var/lib/models/team".parse().unwrap();
        let site = |folders: &str| {
            let text = format!("version: 1\nregistry: {{url: r:5000}}\nnodeFolders: [{folders}]\n");
            Site::parse("site.yaml", &text).unwrap()
        };
        let refusal = |site: Option<&Site>| path.require_allowed(site).unwrap_err().to_string();
        assert!(path.require_allowed(Some(&site("/srv/a, /var/lib/models"))).is_ok());
        let other = refusal(Some(&site("/var/lib/models2, /srv/a")));
        assert!(
            other.contains("allows only /var/lib/models2, /srv/a and what is below"),
            "{other}"
        );
        assert!(refusal(Some(&site(""))).contains("nodeFolders: [/var/lib/models/team]"));
        assert!(refusal(None).contains("--site site.yaml"));
    }

    #[test]
    fn two_targets_never_share_a_daemon_set() {
        let name = |text: &str| text.parse::<NodePath>().unwrap().daemon_set_name();
        let names = [
            name("node:///var/lib/models"),
            name("node:///var/lib/models2"),
            name("node:///var/lib/models?selector=gpu=yes"),
        ];
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2], "{names:?}");
        assert_eq!(names[0], name("node:///var/lib/models/"));
        assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
    }
}
