//! Whether the *nodes* can pull: a pod on each that takes pods, with a locked image of the site and
//! `imagePullPolicy: Always`. With Gantry's own image the pod also resolves a name of the cluster.
//!
//! Any other image never runs: its pod names a program that no image has, so that the node pulls,
//! makes the container, and stops there.

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

/// The part of Gantry that makes these pods.
const PART: &str = "check";
/// Pods at once: a registry is asked by so many nodes for the same small image.
const AT_ONCE: usize = 8;
/// Nodes that are tried; beyond them a cluster's nodes are made alike.
const MOST_NODES: usize = 200;
/// How long a node may take for one pull.
const PULL: Duration = Duration::from_mins(3);
const PERIOD: Duration = Duration::from_millis(400);
/// The name that every cluster's DNS knows.
const RESOLVED: &str = "kubernetes.default";
/// A program that no image has.
const NO_PROGRAM: &str = "/gantry-checks-the-pull-alone";

/// What the pods of both checks found: they are made once.
#[derive(Default)]
pub(super) struct Nodes {
    found: OnceCell<Found>,
}

#[derive(Default)]
struct Found {
    pulls: Vec<Finding>,
    dns: Vec<Finding>,
}

impl Nodes {
    /// Whether every node pulls.
    pub(super) async fn pulls(&self, subject: &Subject) -> Vec<Finding> {
        self.found.get_or_init(|| look(subject)).await.pulls.clone()
    }

    /// Whether names of the cluster resolve in a pod.
    pub(super) async fn dns(&self, subject: &Subject) -> Vec<Finding> {
        self.found.get_or_init(|| look(subject)).await.dns.clone()
    }
}

/// Where the pods are made.
struct Place {
    namespace: String,
    /// Whether it was made for them, and goes with them.
    is_own: bool,
    pull_secret: Option<String>,
}

async fn look(subject: &Subject) -> Found {
    let (pulls, dns) = ("pulls from the registry", "DNS of the cluster");
    let Some(registry) = &subject.registry else {
        return both(no_site, pulls, dns);
    };
    let images: &[Image] = subject.lock.as_ref().map(|lock| &*lock.images).unwrap_or_default();
    if images.is_empty() {
        let why = "there is no locked image to pull";
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
        // It is ours, and empty again; what stays of it is told by its label.
        let _ = subject.cluster.delete_own::<Namespace>(Scope::Cluster, &place.namespace).await;
    }
    let mut found = Found::default();
    for (pull, dns) in all {
        found.pulls.push(pull);
        found.dns.extend(dns);
    }
    if found.dns.is_empty() {
        let why = "only Gantry's own image can ask, and it is not in the lock or could not be pulled (tools: [gantry] in gantry.yaml carries it)";
        found.dns.push(Finding::skipped(Name::Dns, "cluster", dns, why));
    }
    found
}

/// What the pods of this process begin with, and its namespace is called.
fn own_name() -> String {
    format!("gantry-check-{}", std::process::id())
}

/// Takes away the pods and the namespace of this process.
pub(super) async fn sweep(subject: &Subject) {
    let cluster = &subject.cluster;
    let prefix = format!("{}-", own_name());
    for release in &subject.releases {
        let scope = Scope::Namespace(&release.namespace);
        let pods = cluster.list::<Pod>(scope, &format!("{}={PART}", cluster::PART)).await;
        for name in pods.into_iter().flatten().filter_map(|pod| pod.metadata.name) {
            if name.starts_with(&prefix) {
                let _ = cluster.remove_pod(&release.namespace, &name).await;
            }
        }
    }
    let _ = cluster.delete_own::<Namespace>(Scope::Cluster, &own_name()).await;
}

fn both(finding: impl Fn(Name, &str) -> Finding, pulls: &str, dns: &str) -> Found {
    Found { pulls: vec![finding(Name::NodePull, pulls)], dns: vec![finding(Name::Dns, dns)] }
}

/// A namespace of a release that is there, with the pull secret that it has; else one of Gantry's own.
async fn place(subject: &Subject, registry: &SiteRegistry) -> cluster::Result<Place> {
    for release in &subject.releases {
        let found = subject.cluster.get::<Namespace>(Scope::Cluster, &release.namespace).await;
        // Who may not read namespaces works in the one that they have.
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

/// One node: its pull, and what its pod resolved where it could.
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
        let why = "no locked image is made for it";
        return (Finding::skipped(Name::NodePull, node_name, what, why), None);
    };
    let target = match registry.target(&image.reference) {
        Ok(target) => target.to_string(),
        Err(error) => {
            let next = "correct naming in site.yaml";
            let finding = Finding::failed(Name::NodePull, node_name, what);
            return (finding.because(error.to_string(), next), None);
        }
    };
    let pod_name = format!("{}-{index}", own_name());
    let pod = match pod(&pod_name, &node_name, &target, is_gantry, place) {
        Ok(pod) => pod,
        Err(cause) => {
            let finding = Finding::failed(Name::NodePull, node_name, what);
            return (finding.because(cause, "tell Gantry's makers"), None);
        }
    };
    let watched = watch(subject, place, &pod, &target, is_gantry, &node_name);
    let findings = Box::pin(watched).await;
    // Whatever came of it, the pod goes; one that cannot go ends by itself.
    let _ = subject.cluster.remove_pod(&place.namespace, &pod_name).await;
    findings
}

/// Gantry's own image, else the smallest one that the node can run.
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

/// A pod that every cluster admits: restricted pod security, any user, no token, small.
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
            "activeDeadlineSeconds": 600,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
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
                let ok = Finding::ok(Name::NodePull, node, what, format!("it pulled {image}"));
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
                    None => ("its pod did not start".to_owned(), "look at the node".to_owned()),
                };
                let why = format!("nothing was pulled within {} s: {why}", PULL.as_secs());
                return (Finding::failed(Name::NodePull, node, what).because(why, next), None);
            }
            Pull::Waiting => tokio::time::sleep(PERIOD).await,
        }
    }
}

enum Pull {
    Waiting,
    Done,
    Failed(String),
}

/// How far the node is. Whatever comes after the pull proves it.
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
        Some("ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "InvalidImageName") => {
            Pull::Failed(message)
        }
        // Made, or refused as it is: the image was there.
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

/// What the pod says of the name that it resolved.
async fn resolved(subject: &Subject, place: &Place, pod: &str, node: &str) -> Finding {
    let cluster = &subject.cluster;
    let what = format!("{RESOLVED} in a pod on {node}");
    let limit = Duration::from_secs(60);
    // It ends with a failure where the name does not resolve; its words count, not its code.
    let _ = cluster.wait_pod(&place.namespace, pod, cluster::Until::Ended, limit).await;
    let log = match cluster.logs(&place.namespace, pod, None, Some(20)).await {
        Ok(log) => log,
        Err(error) => return Finding::refused(Name::Dns, node, what, &error, State::Warning),
    };
    let answers: Option<Vec<Value>> = log.find('[').and_then(|start| {
        serde_json::Deserializer::from_str(&log[start..]).into_iter().next()?.ok()
    });
    let Some(answer) = answers.as_ref().and_then(|all| all.first()) else {
        let words: String = log.trim().chars().take(300).collect();
        return Finding::failed(Name::Dns, node, what).because(
            format!("its pod did not say what it resolved: {words:?}"),
            "is the Gantry of the lock as new as this one? lock tools: [gantry] again",
        );
    };
    let addresses: Vec<&str> =
        answer["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if addresses.is_empty() {
        let cause = answer["error"].as_str().unwrap_or("it has no address");
        return Finding::failed(Name::Dns, node, what).because(
            cause,
            "look at the pods of CoreDNS in kube-system, and whether a NetworkPolicy stands before them",
        );
    }
    Finding::ok(Name::Dns, node, what, format!("it is {}", addresses.join(", ")))
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
