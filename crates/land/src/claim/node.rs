//! Models on the nodes' own disks: `node:///var/lib/models[?selector=KEY=VALUE&namespace=NAME]`. A
//! DaemonSet has one seeder a node, which does there what a claim's seeder does with its volume.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cluster::objects::api::apps::v1::DaemonSet;
use cluster::objects::api::core::v1::{Namespace, Pod};
use cluster::objects::serde_json::{from_value, json};
use cluster::{Right, Scope, Until, own};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use store::Source;
use store::hash::sha256;
use tokio::time::{Duration, Instant, sleep};
use types::snapshot::check_path;

use super::error::{Error, Result};
use super::order::{Event, Order};
use super::pod::{self, Use};
use super::seed::{Held, Seeder};

/// How nodes' disks are written.
const SCHEME: &str = "node://";
/// The label that a DaemonSet's pods are found by.
const SET: &str = "gantry.dev/set";
/// Nodes that are worked on at once: the bytes come from one place.
const AT_ONCE: usize = 4;
/// How often the DaemonSet is looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// A folder on nodes' disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePath {
    /// The folder, from the root.
    pub folder: String,
    /// Labels of the nodes; all nodes when empty.
    pub selector: BTreeMap<String, String>,
    /// Where the seeders run; the context's namespace when absent.
    pub namespace: Option<String>,
}

impl NodePath {
    /// Whether a target is one.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The rights that work with it needs.
    pub fn rights(namespace: &str) -> Vec<Right> {
        let core = |verb, resource| Right::new(verb, "", resource).in_namespace(namespace);
        let set = |verb| Right::new(verb, "apps", "daemonsets").in_namespace(namespace);
        let mut rights = vec![core("get", "pods"), core("list", "pods")];
        rights.extend(["get", "create", "delete"].map(set));
        rights.extend(["get", "create"].map(|verb| core(verb, "pods/exec")));
        rights
    }

    fn name(&self) -> String {
        format!("gantry-seed-{}", sha256(self.to_string().as_bytes()).short())
    }
}

impl FromStr for NodePath {
    type Err = types::Error;

    fn from_str(text: &str) -> types::Result<Self> {
        let invalid = |reason: &str| types::Error::Invalid {
            what: "node path",
            text: text.to_owned(),
            reason: format!("{reason}; write node:///FOLDER[?selector=KEY=VALUE&namespace=NAME]"),
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| invalid("it has no node://"))?;
        let (folder, query) = rest.split_once('?').unwrap_or((rest, ""));
        let folder = folder.trim_end_matches('/');
        let below =
            folder.strip_prefix('/').ok_or_else(|| invalid("its folder has no / before it"))?;
        check_path(below).map_err(|reason| invalid(&format!("its folder {reason}")))?;
        // A folder of the system itself is no place for models, and mounting it would be one mistake.
        let is_system = ["bin", "boot", "dev", "etc", "lib", "proc", "run", "sbin", "sys", "usr"]
            .contains(&below.split('/').next().unwrap_or_default());
        if is_system || !below.contains('/') {
            return Err(invalid("its folder is the system's; take one such as /var/lib/models"));
        }
        let mut path =
            Self { folder: folder.to_owned(), selector: BTreeMap::new(), namespace: None };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("namespace", name)) => path.namespace = Some(name.to_owned()),
                Some(("selector", terms)) => {
                    for term in terms.split(',') {
                        let (key, value) =
                            term.split_once('=').ok_or_else(|| invalid("a selector has no ="))?;
                        path.selector.insert(key.to_owned(), value.to_owned());
                    }
                }
                _ => return Err(invalid("it has a word that is not known")),
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
    /// Lets one pod a node do an order in a folder of the node's disk; gives the nodes with the last
    /// event of each.
    pub async fn work_on_nodes(
        &self,
        path: &NodePath,
        namespace: &str,
        usage: Use,
        order: &Order,
        source: Option<Arc<dyn Source>>,
    ) -> Result<Vec<(String, Event)>> {
        self.allows_host_paths(namespace).await?;
        let set = self.set(path, namespace, usage)?;
        let scope = Scope::Namespace(namespace);
        let name = path.name();
        // What a killed run left, perhaps of another image, goes first.
        if self.cluster().delete_own::<DaemonSet>(scope, &name).await? {
            self.until_gone(namespace, &name).await?;
        }
        self.hold(Held::DaemonSet(namespace.to_owned(), name.clone()));
        self.cluster().create(scope, &set).await?;
        let pods = self.pods(path, namespace, &name).await?;
        let work = pods.into_iter().map(|node| {
            let (source, name) = (source.clone(), name.clone());
            async move {
                let what = format!("{path} of node {node}");
                let start = async || self.running(namespace, &name, &node).await;
                let mount = format!("{node}:{}", path.folder);
                let event =
                    self.through_breaks(namespace, (&what, &mount), order, source, start).await?;
                Ok::<_, Error>((node, event))
            }
        });
        stream::iter(work).buffered(AT_ONCE).try_collect().await
    }

    /// The namespace must let pods mount a node's disk.
    async fn allows_host_paths(&self, namespace: &str) -> Result<()> {
        let found = match self.cluster().get::<Namespace>(Scope::Cluster, namespace).await {
            // Who may not read it is told by the API server when the pods are made.
            Err(cluster::Error::Forbidden { .. }) => return Ok(()),
            found => found?,
        };
        let what = format!("namespace {namespace}");
        let Some(found) = found else {
            let next = "create it, or name another one with ?namespace=NAME";
            return Err(Error::input(what, "it is not there", next));
        };
        let labels = found.metadata.labels.unwrap_or_default();
        match labels.get("pod-security.kubernetes.io/enforce").map(String::as_str) {
            None | Some("privileged") => Ok(()),
            Some(level) => Err(Error::input(
                what,
                format!("its pod security is {level}, which forbids hostPath volumes"),
                "name a namespace with the label pod-security.kubernetes.io/enforce=privileged by ?namespace=NAME",
            )),
        }
    }

    fn set(&self, path: &NodePath, namespace: &str, usage: Use) -> Result<DaemonSet> {
        let kind = if usage == Use::Write { "DirectoryOrCreate" } else { "Directory" };
        let volume = json!({"hostPath": {"path": path.folder, "type": kind}});
        let mut pod = pod::base(self.image(), &volume, usage);
        let spec = &mut pod["spec"];
        spec["restartPolicy"] = json!("Always");
        // A folder that the kubelet makes is root's.
        spec["securityContext"]["runAsNonRoot"] = json!(false);
        spec["securityContext"]["runAsUser"] = json!(0);
        // Whichever nodes were chosen, they are meant with their taints.
        spec["tolerations"] = json!([{"operator": "Exists"}]);
        spec["nodeSelector"] = json!(path.selector);
        let name = path.name();
        pod["metadata"] = json!({"labels": {SET: name}});
        let set = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {SET: name}}, "template": pod}});
        let fault = "this is a fault of Gantry, please report it";
        let mut set: DaemonSet = from_value(set)
            .map_err(|error| Error::input(path.to_string(), error.to_string(), fault))?;
        own(&mut set.metadata, "seeder");
        if let Some(spec) = &mut set.spec {
            own(spec.template.metadata.get_or_insert_default(), "seeder");
        }
        Ok(set)
    }

    /// The nodes that get a pod.
    async fn pods(&self, path: &NodePath, namespace: &str, name: &str) -> Result<Vec<String>> {
        let scope = Scope::Namespace(namespace);
        let deadline = Instant::now() + self.timeout();
        loop {
            let set = self.cluster().get::<DaemonSet>(scope, name).await?;
            let status = set.as_ref().and_then(|set| set.status.clone()).unwrap_or_default();
            let generation = set.and_then(|set| set.metadata.generation);
            let is_seen = generation.is_some() && status.observed_generation >= generation;
            let wanted = usize::try_from(status.desired_number_scheduled).unwrap_or(0);
            if is_seen && wanted == 0 {
                let next = "see the labels of the nodes";
                return Err(Error::input(path.to_string(), "no node has these labels", next));
            }
            let mut nodes: Vec<String> =
                self.of_set(namespace, name).await?.into_iter().map(|(node, _)| node).collect();
            if is_seen && nodes.len() == wanted {
                nodes.sort();
                return Ok(nodes);
            }
            if Instant::now() > deadline {
                let why = format!("{} of {wanted} seeders were made", nodes.len());
                let what = format!("DaemonSet {namespace}/{name}");
                let warning = self.cluster().warning(namespace, name).await;
                let next = warning.unwrap_or_else(|| "see its events".to_owned());
                return Err(cluster::Error::NotReady { what, why, next }.into());
            }
            sleep(PERIOD).await;
        }
    }

    /// The pods of a set with their nodes.
    async fn of_set(&self, namespace: &str, name: &str) -> Result<Vec<(String, String)>> {
        let scope = Scope::Namespace(namespace);
        let pods = self.cluster().list::<Pod>(scope, &format!("{SET}={name}")).await?;
        let living = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(living.filter_map(|pod| Some((node_of(&pod)?, pod.metadata.name?))).collect())
    }

    /// The pod of one node, when it runs.
    async fn running(&self, namespace: &str, name: &str, node: &str) -> Result<String> {
        let deadline = Instant::now() + self.timeout();
        loop {
            let pods = self.of_set(namespace, name).await?;
            if let Some((_, pod)) = pods.into_iter().find(|(at, _)| at == node) {
                self.cluster().wait_pod(namespace, &pod, Until::Running, self.timeout()).await?;
                return Ok(pod);
            }
            if Instant::now() > deadline {
                let what = format!("the seeder of node {node}");
                let (why, next) = ("there is none".to_owned(), "is the node up?".to_owned());
                return Err(cluster::Error::NotReady { what, why, next }.into());
            }
            sleep(PERIOD).await;
        }
    }

    async fn until_gone(&self, namespace: &str, name: &str) -> Result<()> {
        let deadline = Instant::now() + self.timeout();
        let scope = Scope::Namespace(namespace);
        while self.cluster().get::<DaemonSet>(scope, name).await?.is_some()
            || !self.of_set(namespace, name).await?.is_empty()
        {
            if Instant::now() > deadline {
                let what = format!("DaemonSet {namespace}/{name}");
                let why = "it was deleted and is still there".to_owned();
                let next = "are its nodes up?".to_owned();
                return Err(cluster::Error::NotReady { what, why, next }.into());
            }
            sleep(PERIOD).await;
        }
        Ok(())
    }
}

/// The node that a DaemonSet's pod is for; it may not be scheduled yet.
fn node_of(pod: &Pod) -> Option<String> {
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
            "node:///models",
            "node://var/lib/x",
            "node:///var/../etc/x",
            "node:///var/lib/x?what=1",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<NodePath>().is_err(), "{wrong}");
        }
    }
}
