//! Checks `node-pull` and `dns`: the nodes can pull from the site's registry, and names of the
//! cluster resolve in pods. Only a node itself can tell whether it trusts the registry's
//! certificate, so a pod with a locked image and `imagePullPolicy: Always` is started on each. If
//! the lock has Gantry's own image, the pod also resolves a name.
//!
//! Any other image is pulled without being run: its pod names a program that no image has, so that
//! the node pulls the image, creates the container, and fails to start it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::objects::api::core::v1::{Namespace, Node, Pod, Secret};
use cluster::{Scope, of_pod, own};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use types::lock::Image;
use types::own_image;

use super::nodes::{has, is_schedulable, name, platform};
use super::registry::no_site;
use super::{Finding, Name, SiteRegistry, State, Subject};

/// The value of the label `gantry.dev/part` on these pods.
const PART: &str = "check";
/// The most pods at the same time, so that not all nodes pull from the registry at once.
const AT_ONCE: usize = 8;
/// The most nodes that are checked; in larger clusters the nodes are set up alike.
const MOST_NODES: usize = 200;
/// How long a node may take for one pull of a small image.
const PULL: Duration = Duration::from_mins(3);
/// The interval at which a pod is looked at.
const PERIOD: Duration = Duration::from_millis(400);
/// A name that the DNS of every cluster knows: the Service of the API server.
const RESOLVED: &str = "kubernetes.default";
/// A program that no image has, named so that its error message explains itself.
const NO_PROGRAM: &str = "/gantry-checks-the-pull-alone";

/// The findings of both checks, which share their pods. The check that comes first starts them, and
/// the other waits for the same result.
#[derive(Default)]
pub(super) struct Nodes {
    found: OnceCell<Found>,
}

/// What the pods on all nodes found.
#[derive(Default)]
struct Found {
    pulls: Vec<Finding>,
    dns: Vec<Finding>,
}

impl Nodes {
    /// Checks whether every node can pull.
    pub(super) async fn pulls(&self, subject: &Subject) -> Vec<Finding> {
        self.found.get_or_init(|| look(subject)).await.pulls.clone()
    }

    /// Checks whether names of the cluster resolve in pods.
    pub(super) async fn dns(&self, subject: &Subject) -> Vec<Finding> {
        self.found.get_or_init(|| look(subject)).await.dns.clone()
    }
}

/// The namespace in which the pods are created.
struct Place {
    namespace: String,
    /// Whether it was created for them, and is deleted afterwards.
    is_own: bool,
    pull_secret: Option<String>,
}

/// Starts a pod on each node and collects what they find.
async fn look(subject: &Subject) -> Found {
    let (pulls, dns) = ("pulls from the registry", "DNS of the cluster");
    let Some(registry) = &subject.registry else {
        return both(no_site, pulls, dns);
    };
    let images: &[Image] = subject.lock.as_ref().map(|lock| &*lock.images).unwrap_or_default();
    if images.is_empty() {
        let why = "the lock has no image to pull";
        return both(|name, what| Finding::skipped(name, "site", what, why), pulls, dns);
    }
    let refused = |error: &cluster::Error| {
        both(
            |name, what| Finding::refused(name, "cluster", what, error, State::Warning),
            pulls,
            dns,
        )
    };
    let nodes = match subject.cluster.list::<Node>(Scope::Cluster, "").await {
        Ok(nodes) => nodes,
        Err(error) => return refused(&error),
    };
    let place = match place(subject, registry).await {
        Ok(place) => place,
        Err(error) => return refused(&error),
    };
    let nodes: Vec<&Node> =
        nodes.iter().filter(|node| is_schedulable(node)).take(MOST_NODES).collect();
    let asked = futures::stream::iter(nodes.into_iter().enumerate())
        .map(|(index, node)| one(subject, registry, &place, images, index, node));
    let all: Vec<(Finding, Option<Finding>)> = asked.buffered(AT_ONCE).collect().await;
    if place.is_own {
        // It is empty again. If this fails, its label tells an administrator where it came from.
        let _ = subject.cluster.delete_own::<Namespace>(Scope::Cluster, &place.namespace).await;
    }
    let mut found = Found::default();
    for (pull, dns) in all {
        found.pulls.push(pull);
        found.dns.extend(dns);
    }
    if found.dns.is_empty() {
        let why = "only a pod with Gantry's own image can resolve names, and that is not in the lock or could not be pulled (add it with tools: [gantry] in gantry.yaml)";
        found.dns.push(Finding::skipped(Name::Dns, "cluster", dns, why));
    }
    found
}

/// The name of the namespace of this process, and the prefix of its pods. The process id keeps two
/// runs at the same time apart.
fn own_name() -> String {
    format!("gantry-check-{}", std::process::id())
}

/// Removes the pods and the namespace of this process.
pub(super) async fn sweep(subject: &Subject) {
    let cluster = &subject.cluster;
    let prefix = format!("{}-", own_name());
    for release in &subject.releases {
        let scope = Scope::Namespace(&release.namespace);
        // By label, then by name: pods of another run that is still going on are left alone.
        let pods = cluster.list::<Pod>(scope, &format!("{}={PART}", cluster::PART)).await;
        for name in pods.into_iter().flatten().filter_map(|pod| pod.metadata.name) {
            if name.starts_with(&prefix) {
                let _ = cluster.remove_pod(&release.namespace, &name).await;
            }
        }
    }
    let _ = cluster.delete_own::<Namespace>(Scope::Cluster, &own_name()).await;
}

/// Reports the same for both checks.
fn both(finding: impl Fn(Name, &str) -> Finding, pulls: &str, dns: &str) -> Found {
    Found { pulls: vec![finding(Name::NodePull, pulls)], dns: vec![finding(Name::Dns, dns)] }
}

/// Chooses the namespace of a release that exists, with its pull secret if that exists; otherwise
/// creates a namespace.
async fn place(subject: &Subject, registry: &SiteRegistry) -> cluster::Result<Place> {
    for release in &subject.releases {
        let found = subject.cluster.get::<Namespace>(Scope::Cluster, &release.namespace).await;
        // Without the right to read namespaces, the one of the release is assumed to exist.
        if matches!(found, Ok(None)) {
            continue;
        }
        let mut pull_secret = registry.pull_secret.clone();
        if let Some(name) = &pull_secret {
            let scope = Scope::Namespace(&release.namespace);
            let there = subject.cluster.get::<Secret>(scope, name).await;
            pull_secret = matches!(there, Ok(Some(_))).then(|| name.clone());
        }
        return Ok(Place { namespace: release.namespace.clone(), is_own: false, pull_secret });
    }
    // The strictest level of pod security: these pods meet it, and nothing else should run there.
    let mut namespace = Namespace::default();
    let name = own_name();
    namespace.metadata.name = Some(name.clone());
    namespace.metadata.labels = Some(BTreeMap::from([(
        "pod-security.kubernetes.io/enforce".to_owned(),
        "restricted".to_owned(),
    )]));
    own(&mut namespace.metadata, PART);
    subject.cluster.apply(Scope::Cluster, &namespace).await?;
    Ok(Place { namespace: name, is_own: true, pull_secret: None })
}

/// Checks one node: its pull, and with Gantry's image what its pod resolved.
async fn one(
    subject: &Subject,
    registry: &SiteRegistry,
    place: &Place,
    images: &[Image],
    index: usize,
    node: &Node,
) -> (Finding, Option<Finding>) {
    let node_name = name(node);
    let what = format!("Node {node_name}");
    let Some((image, is_gantry)) = choose(images, node) else {
        let why = "no locked image has its platform";
        return (Finding::skipped(Name::NodePull, node_name, what, why), None);
    };
    let target = match registry.target(&image.reference) {
        Ok(target) => target.to_string(),
        Err(error) => {
            let next = "correct naming: in site.yaml";
            let finding = Finding::failed(Name::NodePull, node_name, what);
            return (finding.because(error.to_string(), next), None);
        }
    };
    let pod_name = format!("{}-{index}", own_name());
    let pod = match pod(&pod_name, &node_name, &target, is_gantry, place) {
        Ok(pod) => pod,
        Err(cause) => {
            let finding = Finding::failed(Name::NodePull, node_name, what);
            return (finding.because(cause, "this is a defect of Gantry: please report it"), None);
        }
    };
    let watched = watch(subject, place, &pod, &target, is_gantry, &node_name);
    let findings = Box::pin(watched).await;
    // The pod is removed whatever the result is. If that fails, its deadline (600 s) ends it.
    let _ = subject.cluster.remove_pod(&place.namespace, &pod_name).await;
    findings
}

/// Chooses the image to pull on a node: Gantry's own, or the smallest one for its platform. Returns
/// it with whether it is Gantry's.
fn choose<'a>(images: &'a [Image], node: &Node) -> Option<(&'a Image, bool)> {
    let platform = platform(node)?;
    let fitting = || images.iter().filter(|image| has(image, &platform));
    if let Some(own) = fitting().find(|image| image.reference.name() == own_image::REPOSITORY) {
        return Some((own, true));
    }
    let size = |image: &&Image| -> u64 {
        let blobs = image.manifests.iter().flat_map(types::lock::Manifest::blobs);
        blobs.map(|blob| blob.size).sum()
    };
    fitting().min_by_key(size).map(|image| (image, false))
}

/// Builds a pod that any cluster accepts: restricted pod security, no fixed user (as OpenShift
/// demands), no token, few resources.
fn pod(pod: &str, node: &str, image: &str, is_gantry: bool, place: &Place) -> Result<Pod, String> {
    let mut container = json!({
        "name": "pull",
        "image": image,
        "imagePullPolicy": "Always",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        },
    });
    match is_gantry {
        true => container["args"] = json!(["resolve", RESOLVED, "--output", "json"]),
        false => container["command"] = json!([NO_PROGRAM]),
    }
    let secrets: Vec<Value> = place.pull_secret.iter().map(|name| json!({"name": name})).collect();
    let manifest = json!({
        "metadata": {"name": pod},
        "spec": {
            "restartPolicy": "Never",
            // Kubernetes ends the pod should Gantry be killed before it can remove it.
            "activeDeadlineSeconds": 600,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            // Not `nodeName`, which bypasses the scheduler and with it the checks of capacity.
            // Tolerates everything, as tainted nodes pull images, too.
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": [node]}
                ]}]
            }}},
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": secrets,
            "containers": [container],
        },
    });
    let mut made: Pod = serde_json::from_value(manifest).map_err(|cause| cause.to_string())?;
    own(&mut made.metadata, PART);
    Ok(made)
}

/// Starts the pod and waits until the pull has succeeded or failed.
async fn watch(
    subject: &Subject,
    place: &Place,
    pod: &Pod,
    image: &str,
    is_gantry: bool,
    node: &str,
) -> (Finding, Option<Finding>) {
    let cluster = &subject.cluster;
    let what = format!("Node {node}");
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let refused = |error: &cluster::Error| {
        (Finding::refused(Name::NodePull, node, &what, error, State::Warning), None)
    };
    let started = Instant::now();
    if let Err(error) = cluster.start_pod(&place.namespace, pod).await {
        return refused(&error);
    }
    loop {
        let now = match cluster.get::<Pod>(Scope::Namespace(&place.namespace), pod_name).await {
            Ok(now) => now.unwrap_or_default(),
            Err(error) => return refused(&error),
        };
        match pulled(&now) {
            Pull::Done => {
                let took = started.elapsed();
                let ok = Finding::ok(Name::NodePull, node, what, format!("it has pulled {image}"));
                let dns = match is_gantry {
                    true => Some(resolved(subject, place, pod_name, node).await),
                    false => None,
                };
                return (ok.taking(took), dns);
            }
            Pull::Failed(message) => {
                let reason = of_pod(&now);
                let why = reason.as_ref().map_or_else(
                    || format!("it cannot pull {image}"),
                    |reason| reason.why.replacen("container pull ", "it ", 1),
                );
                let next = reason.map(|reason| reason.next).unwrap_or_default();
                let why = if message.is_empty() { why } else { format!("{why}\n  {message}") };
                let failed = Finding::failed(Name::NodePull, node, what).because(why, next);
                return (failed, None);
            }
            Pull::Waiting if started.elapsed() > PULL => {
                let (why, next) = match of_pod(&now) {
                    Some(reason) => (reason.why, reason.next),
                    None => ("its pod did not start".to_owned(), "check the node".to_owned()),
                };
                let why = format!("the image was not pulled within {} s: {why}", PULL.as_secs());
                return (Finding::failed(Name::NodePull, node, what).because(why, next), None);
            }
            Pull::Waiting => tokio::time::sleep(PERIOD).await,
        }
    }
}

/// How far the pull of an image is.
enum Pull {
    Waiting,
    Done,
    Failed(String),
}

/// Reads from the status of the pod how far the pull is. Any state that comes after the pull proves
/// it.
fn pulled(pod: &Pod) -> Pull {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let Some(status) = statuses.and_then(|all| all.first()) else { return Pull::Waiting };
    let state = status.state.as_ref();
    if !status.image_id.is_empty()
        || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    {
        return Pull::Done;
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let message = waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default();
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        // Reported at once, without waiting for the retries of the kubelet: the reasons that pass
        // by themselves are rare, and the check can be repeated.
        Some("ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "InvalidImageName") => {
            Pull::Failed(message)
        }
        // The container was created, or its creation failed: the image was there before.
        Some(
            "CreateContainerError"
            | "CreateContainerConfigError"
            | "RunContainerError"
            | "StartError"
            | "CrashLoopBackOff",
        ) => Pull::Done,
        _ => Pull::Waiting,
    }
}

/// Reads from the log of the pod what it resolved.
async fn resolved(subject: &Subject, place: &Place, pod: &str, node: &str) -> Finding {
    let cluster = &subject.cluster;
    let what = format!("{RESOLVED} in a pod on {node}");
    let limit = Duration::from_secs(60);
    // Its exit code is of no interest: it also fails if the name does not resolve, and the log has
    // the reason.
    let _ = cluster.wait_pod(&place.namespace, pod, cluster::Until::Ended, limit).await;
    let log = match cluster.logs(&place.namespace, pod, None, Some(20)).await {
        Ok(log) => log,
        Err(error) => return Finding::refused(Name::Dns, node, what, &error, State::Warning),
    };
    // Warnings may precede the JSON in the log, which has both output streams.
    let answers: Option<Vec<Value>> = log.find('[').and_then(|start| {
        serde_json::Deserializer::from_str(&log[start..]).into_iter().next()?.ok()
    });
    let Some(answer) = answers.as_ref().and_then(|all| all.first()) else {
        let words: String = log.trim().chars().take(300).collect();
        return Finding::failed(Name::Dns, node, what).because(
            format!("the output of its pod is not what was expected: {words:?}"),
            "the locked Gantry image may be older than this Gantry: update tools: [gantry] with gantry lock --upgrade",
        );
    };
    let addresses: Vec<&str> =
        answer["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if addresses.is_empty() {
        let cause = answer["error"].as_str().unwrap_or("the name has no address");
        return Finding::failed(Name::Dns, node, what).because(
            cause,
            "check the pods of CoreDNS in kube-system, and whether a NetworkPolicy blocks access to them",
        );
    }
    Finding::ok(Name::Dns, node, what, format!("it resolves to {}", addresses.join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pod_with(state: &Value, image_id: &str) -> Pod {
        serde_json::from_value(json!({"status": {"containerStatuses": [{
            "name": "pull", "image": "i", "imageID": image_id, "ready": false, "restartCount": 0,
            "state": state}]}}))
        .unwrap()
    }

    #[test]
    fn whatever_comes_after_the_pull_proves_it() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "m"}});
        for (state, is_done) in [
            (waiting("CreateContainerConfigError"), true),
            (waiting("RunContainerError"), true),
            (json!({"terminated": {"exitCode": 128}}), true),
            (waiting("ContainerCreating"), false),
        ] {
            assert_eq!(matches!(pulled(&pod_with(&state, "")), Pull::Done), is_done, "{state}");
        }
        let failed = pulled(&pod_with(&waiting("ErrImagePull"), ""));
        assert!(matches!(failed, Pull::Failed(message) if message == "m"));
    }
}
