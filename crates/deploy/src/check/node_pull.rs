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
use cluster::{NotReadyCause, NotReadyReason, ObjectScope, explain_pod, mark_as_own};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::sync::OnceCell;
use types::lock::LockedImage;
use types::own_image;

use super::nodes::{has_platform, is_schedulable, node_name, node_platform};
use super::pull_pod::{PART, PullProgress, RESOLVED, build_pull_pod, read_pull_progress};
use super::registry::skip_without_site;
use super::{CheckFinding, CheckName, CheckSubject, FindingState, SiteRegistry};

/// The most pods at the same time, so that not all nodes pull from the registry at once.
const AT_ONCE: usize = 8;
/// The most nodes that are checked; in larger clusters the nodes are set up alike.
const MOST_NODES: usize = 200;
/// How long a node may take for one pull of a small image.
const PULL: Duration = Duration::from_mins(3);
/// When a kubelet has tried a second time: it waits 10 s after the first failure (kubelet's image
/// back-off), and on a busy node a pull takes some seconds more.
const FIRST_RETRY: Duration = Duration::from_secs(25);
/// The reason of the kubelet's event for a pod whose pull secret it could not read (kubernetes
/// `pkg/kubelet/events/event.go`).
const NO_SECRET: &str = "FailedToRetrieveImagePullSecret";
/// The interval at which a pod is looked at.
const PERIOD: Duration = Duration::from_millis(400);

/// The findings of both checks, which share their pods. The check that comes first starts them, and
/// the other waits for the same result.
#[derive(Default)]
pub(super) struct NodePodChecks {
    found: OnceCell<NodePodFindings>,
}

/// What the pods on all nodes found.
#[derive(Default)]
struct NodePodFindings {
    pulls: Vec<CheckFinding>,
    dns: Vec<CheckFinding>,
}

impl NodePodChecks {
    /// Checks whether every node can pull.
    pub(super) async fn check_pulls(&self, subject: &CheckSubject) -> Vec<CheckFinding> {
        self.found.get_or_init(|| run_node_pods(subject)).await.pulls.clone()
    }

    /// Checks whether names of the cluster resolve in pods.
    pub(super) async fn check_dns(&self, subject: &CheckSubject) -> Vec<CheckFinding> {
        self.found.get_or_init(|| run_node_pods(subject)).await.dns.clone()
    }
}

/// The namespace in which the pods are created.
struct PullPodNamespace {
    namespace: String,
    /// Whether it was created for them, and is deleted afterwards.
    is_own: bool,
    pull_secret: Option<String>,
}

/// Starts a pod on each node and collects what they find.
async fn run_node_pods(subject: &CheckSubject) -> NodePodFindings {
    let (pulls, dns) = ("pulls from the registry", "DNS of the cluster");
    let Some(registry) = &subject.registry else {
        return report_for_both_checks(skip_without_site, pulls, dns);
    };
    let images: &[LockedImage] =
        subject.lock.as_ref().map(|lock| &*lock.images).unwrap_or_default();
    if images.is_empty() {
        let why = "the lock has no image to pull";
        return report_for_both_checks(
            |name, what| CheckFinding::skipped(name, "site", what, why),
            pulls,
            dns,
        );
    }
    let refused = |error: &cluster::Error| {
        report_for_both_checks(
            |name, what| {
                CheckFinding::from_cluster_error(
                    name,
                    "cluster",
                    what,
                    error,
                    FindingState::Warning,
                )
            },
            pulls,
            dns,
        )
    };
    let nodes = match subject.cluster.list_objects::<Node>(ObjectScope::Cluster, "").await {
        Ok(nodes) => nodes,
        Err(error) => return refused(&error),
    };
    let place = match find_or_create_namespace(subject, registry).await {
        Ok(place) => place,
        Err(error) => return refused(&error),
    };
    let nodes: Vec<&Node> =
        nodes.iter().filter(|node| is_schedulable(node)).take(MOST_NODES).collect();
    let asked = futures::stream::iter(nodes.into_iter().enumerate())
        .map(|(index, node)| check_node(subject, registry, &place, images, index, node));
    let all: Vec<(CheckFinding, Option<CheckFinding>)> = asked.buffered(AT_ONCE).collect().await;
    if place.is_own {
        // It is empty again. If this fails, its label tells an administrator where it came from.
        let _ = subject
            .cluster
            .delete_own_object::<Namespace>(ObjectScope::Cluster, &place.namespace)
            .await;
    }
    let mut found = NodePodFindings::default();
    for (pull, dns) in all {
        found.pulls.push(pull);
        found.dns.extend(dns);
    }
    if found.dns.is_empty() {
        let why = "only a pod with Gantry's own image can resolve names, and that is not in the lock or could not be pulled (add it with tools: [gantry] in gantry.yaml)";
        found.dns.push(CheckFinding::skipped(CheckName::Dns, "cluster", dns, why));
    }
    found
}

/// The name of the namespace of this process, and the prefix of its pods. The process id keeps two
/// runs at the same time apart.
fn process_pod_prefix() -> String {
    format!("gantry-check-{}", std::process::id())
}

/// Removes the pods and the namespace of this process.
pub(super) async fn remove_node_pods(subject: &CheckSubject) {
    let cluster = &subject.cluster;
    let prefix = format!("{}-", process_pod_prefix());
    for release in &subject.releases {
        let scope = ObjectScope::Namespace(&release.namespace);
        // By label, then by name: pods of another run that is still going on are left alone.
        let pods = cluster.list_objects::<Pod>(scope, &format!("{}={PART}", cluster::PART)).await;
        for name in pods.into_iter().flatten().filter_map(|pod| pod.metadata.name) {
            if name.starts_with(&prefix) {
                let _ = cluster.remove_pod(&release.namespace, &name).await;
            }
        }
    }
    let _ =
        cluster.delete_own_object::<Namespace>(ObjectScope::Cluster, &process_pod_prefix()).await;
}

/// Reports the same for both checks.
fn report_for_both_checks(
    finding: impl Fn(CheckName, &str) -> CheckFinding,
    pulls: &str,
    dns: &str,
) -> NodePodFindings {
    NodePodFindings {
        pulls: vec![finding(CheckName::NodePull, pulls)],
        dns: vec![finding(CheckName::Dns, dns)],
    }
}

/// Chooses the namespace of a release that exists, with its pull secret if that exists; otherwise
/// creates a namespace.
async fn find_or_create_namespace(
    subject: &CheckSubject,
    registry: &SiteRegistry,
) -> cluster::Result<PullPodNamespace> {
    for release in &subject.releases {
        let found =
            subject.cluster.get_object::<Namespace>(ObjectScope::Cluster, &release.namespace).await;
        // Without the right to read namespaces, the one of the release is assumed to exist.
        if matches!(found, Ok(None)) {
            continue;
        }
        let mut pull_secret = registry.pull_secret.clone();
        if let Some(name) = &pull_secret {
            let scope = ObjectScope::Namespace(&release.namespace);
            let there = subject.cluster.get_object::<Secret>(scope, name).await;
            pull_secret = matches!(there, Ok(Some(_))).then(|| name.clone());
        }
        return Ok(PullPodNamespace {
            namespace: release.namespace.clone(),
            is_own: false,
            pull_secret,
        });
    }
    // The strictest level of pod security: these pods meet it, and nothing else should run there.
    let mut namespace = Namespace::default();
    let name = process_pod_prefix();
    namespace.metadata.name = Some(name.clone());
    namespace.metadata.labels = Some(BTreeMap::from([(
        "pod-security.kubernetes.io/enforce".to_owned(),
        "restricted".to_owned(),
    )]));
    mark_as_own(&mut namespace.metadata, PART);
    subject.cluster.apply_object(ObjectScope::Cluster, &namespace).await?;
    Ok(PullPodNamespace { namespace: name, is_own: true, pull_secret: None })
}

/// Checks one node: its pull, and with Gantry's image what its pod resolved.
async fn check_node(
    subject: &CheckSubject,
    registry: &SiteRegistry,
    place: &PullPodNamespace,
    images: &[LockedImage],
    index: usize,
    node: &Node,
) -> (CheckFinding, Option<CheckFinding>) {
    let node_name = node_name(node);
    let what = format!("Node {node_name}");
    let Some((image, is_gantry)) = choose_image(images, node) else {
        let why = "no locked image has its platform";
        return (CheckFinding::skipped(CheckName::NodePull, node_name, what, why), None);
    };
    let target = match registry.target_reference(&image.reference) {
        Ok(target) => target.to_string(),
        Err(error) => {
            let next = "correct naming: in site.yaml";
            let finding = CheckFinding::failed(CheckName::NodePull, node_name, what);
            return (finding.with_reason(error.to_string(), next), None);
        }
    };
    let pod_name = format!("{}-{index}", process_pod_prefix());
    let pod = match build_pull_pod(
        &pod_name,
        &node_name,
        &target,
        is_gantry,
        place.pull_secret.as_deref(),
    ) {
        Ok(pod) => pod,
        Err(cause) => {
            let finding = CheckFinding::failed(CheckName::NodePull, node_name, what);
            return (
                finding.with_reason(cause, "this is a defect of Gantry: please report it"),
                None,
            );
        }
    };
    let watched = watch_pull(subject, place, &pod, &target, is_gantry, &node_name);
    let findings = Box::pin(watched).await;
    // The pod is removed whatever the result is. If that fails, its deadline (600 s) ends it.
    let _ = subject.cluster.remove_pod(&place.namespace, &pod_name).await;
    findings
}

/// Chooses the image to pull on a node: Gantry's own, or the smallest one for its platform. Returns
/// it with whether it is Gantry's.
fn choose_image<'a>(images: &'a [LockedImage], node: &Node) -> Option<(&'a LockedImage, bool)> {
    let platform = node_platform(node)?;
    let fitting = || images.iter().filter(|image| has_platform(image, &platform));
    if let Some(own) = fitting().find(|image| image.reference.name() == own_image::REPOSITORY) {
        return Some((own, true));
    }
    let size = |image: &&LockedImage| -> u64 {
        let blobs = image.manifests.iter().flat_map(types::lock::LockedManifest::blobs);
        blobs.map(|blob| blob.size).sum()
    };
    fitting().min_by_key(size).map(|image| (image, false))
}

/// Starts the pod and waits until the pull has succeeded or failed.
async fn watch_pull(
    subject: &CheckSubject,
    place: &PullPodNamespace,
    pod: &Pod,
    image: &str,
    is_gantry: bool,
    node: &str,
) -> (CheckFinding, Option<CheckFinding>) {
    let cluster = &subject.cluster;
    let what = format!("Node {node}");
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let refused = |error: &cluster::Error| {
        (
            CheckFinding::from_cluster_error(
                CheckName::NodePull,
                node,
                &what,
                error,
                FindingState::Warning,
            ),
            None,
        )
    };
    let started = Instant::now();
    if let Err(error) = cluster.start_pod(&place.namespace, pod).await {
        return refused(&error);
    }
    loop {
        let now = match cluster
            .get_object::<Pod>(ObjectScope::Namespace(&place.namespace), pod_name)
            .await
        {
            Ok(now) => now.unwrap_or_default(),
            Err(error) => return refused(&error),
        };
        match read_pull_progress(&now) {
            PullProgress::Done => {
                let took = started.elapsed();
                let ok = CheckFinding::ok(
                    CheckName::NodePull,
                    node,
                    what,
                    format!("it has pulled {image}"),
                );
                let dns = match is_gantry {
                    true => Some(check_name_resolution(subject, place, pod_name, node).await),
                    false => None,
                };
                return (ok.with_duration(took), dns);
            }
            // A kubelet that has not got the pull secret yet pulls without it, and again with it.
            PullProgress::Failed(_)
                if place.pull_secret.is_some()
                    && started.elapsed() < FIRST_RETRY
                    && cluster.has_event(&place.namespace, pod_name, NO_SECRET).await =>
            {
                tokio::time::sleep(PERIOD).await;
            }
            PullProgress::Failed(message) => {
                let (why, next) = match explain_pod(&now) {
                    Some(NotReadyReason { cause: NotReadyCause::Pull(problem), next, .. }) => {
                        (format!("it {problem}"), next)
                    }
                    Some(reason) => (reason.why, reason.next),
                    None => (format!("it cannot pull {image}"), String::new()),
                };
                let why = if message.is_empty() { why } else { format!("{why}\n  {message}") };
                let failed =
                    CheckFinding::failed(CheckName::NodePull, node, what).with_reason(why, next);
                return (failed, None);
            }
            PullProgress::Waiting if started.elapsed() > PULL => {
                let (why, next) = match explain_pod(&now) {
                    Some(reason) => (reason.why, reason.next),
                    None => ("its pod did not start".to_owned(), "check the node".to_owned()),
                };
                let why = format!("the image was not pulled within {} s: {why}", PULL.as_secs());
                return (
                    CheckFinding::failed(CheckName::NodePull, node, what).with_reason(why, next),
                    None,
                );
            }
            PullProgress::Waiting => tokio::time::sleep(PERIOD).await,
        }
    }
}

/// Reads from the log of the pod what it resolved.
async fn check_name_resolution(
    subject: &CheckSubject,
    place: &PullPodNamespace,
    pod: &str,
    node: &str,
) -> CheckFinding {
    let cluster = &subject.cluster;
    let what = format!("{RESOLVED} in a pod on {node}");
    let limit = Duration::from_secs(60);
    // Its exit code is of no interest: it also fails if the name does not resolve, and the log has
    // the reason.
    let _ =
        cluster.wait_for_pod(&place.namespace, pod, cluster::AwaitedPodState::Ended, limit).await;
    let log = match cluster.read_logs(&place.namespace, pod, None, Some(20)).await {
        Ok(log) => log,
        Err(error) => {
            return CheckFinding::from_cluster_error(
                CheckName::Dns,
                node,
                what,
                &error,
                FindingState::Warning,
            );
        }
    };
    // Warnings may precede the JSON in the log, which has both output streams.
    let answers: Option<Vec<Value>> = log.find('[').and_then(|start| {
        serde_json::Deserializer::from_str(&log[start..]).into_iter().next()?.ok()
    });
    let Some(answer) = answers.as_ref().and_then(|all| all.first()) else {
        let words: String = log.trim().chars().take(300).collect();
        return CheckFinding::failed(CheckName::Dns, node, what).with_reason(
            format!("the output of its pod is not what was expected: {words:?}"),
            "the locked Gantry image may be older than this Gantry: update tools: [gantry] with gantry lock --upgrade",
        );
    };
    let addresses: Vec<&str> =
        answer["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if addresses.is_empty() {
        let cause = answer["error"].as_str().unwrap_or("the name has no address");
        return CheckFinding::failed(CheckName::Dns, node, what).with_reason(
            cause,
            "check the pods of CoreDNS in kube-system, and whether a NetworkPolicy blocks access to them",
        );
    }
    CheckFinding::ok(CheckName::Dns, node, what, format!("it resolves to {}", addresses.join(", ")))
}
