//! Waits until a release is ready, and explains meanwhile what is missing: the pods of each object
//! that is not ready, warnings of the kubelet and of controllers, the last log lines of a failing
//! container, claims without a volume. `workloads` says which objects are waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::objects::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use cluster::objects::api::storage::v1::StorageClass;
use cluster::pod_spec::list_claims;
use cluster::{Cluster, ObjectScope, SettlingPods, explain_pod};
use tokio::time::{Instant, sleep};

use super::progress::{PendingObject, ProgressWatcher, ReleaseProgress};
use super::workloads::{AwaitedObjects, NamespacePods, UnreadyObject};
use crate::{Error, Result};

/// The interval between two looks at the cluster: a person sees changes at once, and the API server
/// gets few requests.
const PERIOD: Duration = Duration::from_millis(700);
/// How long an object must look beyond hope before the wait ends early. Some states, such as an
/// image pull error, appear for a moment and pass; the kubelet retries the first ones within
/// seconds.
const BELIEVED: Duration = Duration::from_secs(8);
/// How many of the last log lines of a failing container are shown.
const LINES: u32 = 5;
/// How many pods get their logs read in one look, as each takes a request.
const MOST_LOGS: usize = 5;

/// Waits until all objects are ready. `release` is the name and the namespace of the release.
///
/// # Errors
/// [`Error::NotReady`] if that takes longer than `timeout`, or if waiting cannot help.
pub(super) async fn wait_until_ready(
    cluster: &Cluster,
    workloads: &AwaitedObjects,
    release: (&str, &str),
    timeout: Duration,
    watch: &dyn ProgressWatcher,
) -> Result<()> {
    let started = Instant::now();
    let mut hopeless: BTreeMap<String, Instant> = BTreeMap::new();
    let mut settling = SettlingPods::default();
    loop {
        let pending = find_pending(cluster, workloads).await?;
        if pending.is_empty() {
            hopeless.clear();
            // A controller counts a container without a probe as soon as it starts.
            if settling.have_settled(&list_serving_pods(cluster, workloads).await?) {
                watch.show(&build_progress(release.0, "waiting", workloads, &pending));
                return Ok(());
            }
            watch.show(&build_progress(
                release.0,
                "making sure that it stays up",
                workloads,
                &pending,
            ));
            sleep(PERIOD).await;
            continue;
        }
        watch.show(&build_progress(release.0, "waiting", workloads, &pending));
        let now = Instant::now();
        // An object that recovered starts anew, should it fail again.
        hopeless
            .retain(|object, _| pending.iter().any(|one| one.is_final && one.object == *object));
        for one in pending.iter().filter(|one| one.is_final) {
            hopeless.entry(one.object.clone()).or_insert(now);
        }
        // One hopeless object is enough, since the release cannot become ready without it.
        let is_believed = hopeless.values().any(|since| now - *since > BELIEVED);
        if is_believed || started.elapsed() > timeout {
            return Err(Error::NotReady {
                release: release.0.to_owned(),
                namespace: release.1.to_owned(),
                seconds: started.elapsed().as_secs(),
                pending,
            });
        }
        sleep(PERIOD).await;
    }
}

/// Shows the progress while helm runs. Never ends: the caller drops it when helm is done.
pub(super) async fn show_progress(
    cluster: &Cluster,
    workloads: &AwaitedObjects,
    release: &str,
    watch: &dyn ProgressWatcher,
) {
    loop {
        sleep(PERIOD).await;
        // Errors are dropped: helm talks to the same API server and reports them itself.
        let pending = find_pending(cluster, workloads).await.unwrap_or_default();
        // Objects without a next step are those that helm has not created yet.
        let pending: Vec<_> = pending.into_iter().filter(|one| !one.next.is_empty()).collect();
        watch.show(&build_progress(release, "helm is running", workloads, &pending));
    }
}

fn build_progress(
    release: &str,
    doing: &str,
    workloads: &AwaitedObjects,
    pending: &[PendingObject],
) -> ReleaseProgress {
    let of = workloads.ids.len();
    ReleaseProgress {
        release: release.to_owned(),
        doing: doing.to_owned(),
        ready: of.saturating_sub(pending.len()),
        of,
        pending: pending.to_vec(),
    }
}

/// Lists the pods that are to stay: those of all objects but Jobs.
async fn list_serving_pods(cluster: &Cluster, workloads: &AwaitedObjects) -> Result<Vec<Pod>> {
    let mut serving = Vec::new();
    for namespace in workloads.namespaces() {
        let pods = NamespacePods::list(cluster, &namespace).await?;
        let own = workloads.ids.iter().filter(|id| id.namespace.as_ref() == Some(&namespace));
        for id in own.filter(|id| id.kind != "Job") {
            serving.extend(pods.pods_of(id).cloned());
        }
    }
    Ok(serving)
}

/// Lists the objects that are not ready, with the reasons.
pub(super) async fn find_pending(
    cluster: &Cluster,
    workloads: &AwaitedObjects,
) -> Result<Vec<PendingObject>> {
    let waiting = workloads.find_unready(cluster).await?;
    if waiting.is_empty() {
        return Ok(vec![]);
    }
    let mut pods = BTreeMap::new();
    for namespace in workloads.namespaces() {
        pods.insert(namespace.clone(), NamespacePods::list(cluster, &namespace).await?);
    }
    let mut all = Vec::new();
    for one in &waiting {
        let namespace = one.id.namespace.as_deref().unwrap_or_default();
        let Some(pods) = pods.get(namespace) else { continue };
        if one.id.kind == "PersistentVolumeClaim" && !is_claim_awaited(cluster, one, pods).await {
            continue;
        }
        all.push(explain_pending(cluster, one, namespace, pods, all.len()).await);
    }
    Ok(all)
}

/// Whether an unbound claim is worth waiting for. With `volumeBindingMode: WaitForFirstConsumer` a
/// claim is bound when its first pod is scheduled: without a pod nothing is missing.
async fn is_claim_awaited(cluster: &Cluster, claim: &UnreadyObject, pods: &NamespacePods) -> bool {
    let is_used = pods.pods.iter().any(|pod| list_claims(pod).any(|name| name == claim.id.name));
    if is_used {
        return true;
    }
    let namespace = claim.id.namespace.as_deref().unwrap_or_default();
    let (name, scope) = (&claim.id.name, ObjectScope::Namespace(namespace));
    let Ok(Some(found)) = cluster.get_object::<PersistentVolumeClaim>(scope, name).await else {
        return true;
    };
    let class = found.spec.and_then(|spec| spec.storage_class_name);
    let Some(class) = class else { return true };
    let class = cluster.get_object::<StorageClass>(ObjectScope::Cluster, &class).await;
    !matches!(class, Ok(Some(class))
        if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

async fn explain_pending(
    cluster: &Cluster,
    waiting: &UnreadyObject,
    namespace: &str,
    pods: &NamespacePods,
    number: usize,
) -> PendingObject {
    let object = waiting.id.to_string();
    let mut own: Vec<&Pod> = pods.pods_owned_by(&waiting.uid).collect();
    // The newest first: during an upgrade the old pods are ready, and the new ones are waited for.
    own.sort_by_key(|pod| {
        std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
    });
    let failing = own.iter().find_map(|pod| Some((*pod, explain_pod(pod)?)));
    let Some((pod, reason)) = failing else {
        let (why, next) = explain_without_pod(cluster, waiting, namespace).await;
        return PendingObject { object, why, next, log: vec![], is_final: waiting.is_final };
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut why = format!("pod {name}: {}", reason.why);
    let mut next = reason.next;
    // An unbound claim is the cause behind "unschedulable", and its own reason says more.
    if let Some((claim, cause, help)) = find_unbound_claim(cluster, namespace, pod).await {
        why = format!("pod {name} waits for the claim {claim}: {cause}");
        next = help;
    } else if let Some(warning) = find_newest_warning(cluster, namespace, name).await
        && !why.contains(&warning)
    {
        why = format!("{why} ({})", shorten_to_line(&warning));
    }
    // The log is read last, and only for the first few: the reason alone usually suffices.
    let log = match find_failing_container(pod) {
        Some(container) if number < MOST_LOGS => {
            let log = cluster.read_logs(namespace, name, Some(&container), Some(LINES)).await;
            log.unwrap_or_default().lines().map(str::to_owned).collect()
        }
        _ => vec![],
    };
    // A controller replaces a pod whose container ended, so only the controller knows when to give
    // up. Reasons that point to the log are such failures; for a bare pod or a Job the status is
    // final.
    let is_final = match waiting.id.kind.as_str() {
        "Job" => waiting.is_final,
        "Pod" => reason.is_final,
        _ => reason.is_final && !next.contains("log"),
    };
    PendingObject { object, why, next, log, is_final }
}

/// Explains an object that has no failing pod by the warnings of its controller, with the next
/// step.
async fn explain_without_pod(
    cluster: &Cluster,
    waiting: &UnreadyObject,
    namespace: &str,
) -> (String, String) {
    let words = find_newest_warning(cluster, namespace, &waiting.id.name).await;
    let why = match &words {
        Some(words) if !waiting.why.contains(words) => {
            format!("{} ({})", waiting.why, shorten_to_line(words))
        }
        _ => waiting.why.clone(),
    };
    let lower = why.to_lowercase();
    let next = if waiting.id.kind == "PersistentVolumeClaim" {
        let name = (waiting.id.name.as_str(), namespace);
        match explain_unbound_claim(cluster, name.1, name.0).await {
            Some((cause, help)) => return (cause, help),
            None => "wait",
        }
    } else if lower.contains("exceeded quota") {
        "raise the namespace's quota, or request less in the values"
    } else if lower.contains("podsecurity") || lower.contains("violates") {
        "set the security context in the values, or another --pod-security level"
    } else if lower.contains("serviceaccount") && lower.contains("not found") {
        "create the service account that it names"
    } else if lower.contains("admission webhook") {
        "change the values so that the policy of the webhook accepts the pods"
    } else if waiting.is_final {
        "read its log and its events"
    } else {
        "wait"
    };
    (why, next.to_owned())
}

/// Finds the first claim of a pod that has no volume: its name, the reason, and the next step.
async fn find_unbound_claim(
    cluster: &Cluster,
    namespace: &str,
    pod: &Pod,
) -> Option<(String, String, String)> {
    // The scheduler places a pod only after all its claims are bound or can be.
    let is_scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if is_scheduled {
        return None;
    }
    for name in list_claims(pod) {
        if let Some((cause, help)) = explain_unbound_claim(cluster, namespace, name).await {
            return Some((name.to_owned(), cause, help));
        }
    }
    None
}

/// Explains why a claim has no volume, with the next step; `None` if it has one or nothing is
/// wrong.
async fn explain_unbound_claim(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Option<(String, String)> {
    let scope = ObjectScope::Namespace(namespace);
    let Ok(found) = cluster.get_object::<PersistentVolumeClaim>(scope, name).await else {
        return None;
    };
    let Some(found) = found else {
        let help = format!(
            "create and fill it: gantry models push BUNDLE_FILE… --to pvc://{namespace}/{name} --create"
        );
        return Some(("it does not exist".to_owned(), help));
    };
    if found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound") {
        return None;
    }
    let class = found.spec.and_then(|spec| spec.storage_class_name);
    if let (Some(class), Ok(all)) =
        (&class, cluster.list_objects::<StorageClass>(ObjectScope::Cluster, "").await)
        && !class.is_empty()
    {
        let names: Vec<String> = all.into_iter().filter_map(|one| one.metadata.name).collect();
        if !names.contains(class) {
            let help = format!(
                "choose another storage class in the values (the cluster has: {})",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
            return Some((format!("the cluster has no storage class {class}"), help));
        }
    }
    if class.is_none() {
        let help = "name a storage class in the values, or mark one as the default".to_owned();
        return Some(("it names no storage class, and no class is the default".to_owned(), help));
    }
    let words = find_newest_warning(cluster, namespace, name).await?;
    let help = "see the message of the storage class's provisioner".to_owned();
    Some((shorten_to_line(&words), help))
}

/// The first container that failed or is not ready: its log probably says why.
fn find_failing_container(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    let has_failed = |status: &&cluster::objects::api::core::v1::ContainerStatus| {
        let state = status.state.clone().unwrap_or_default();
        let has_ended = state.terminated.is_some_and(|ended| ended.exit_code != 0);
        let is_unready = state.running.is_some() && !status.ready;
        has_ended || is_unready || (status.restart_count > 0 && !status.ready)
    };
    all.filter(has_failed).map(|status| status.name.clone()).next()
}

/// The message of the newest Warning event about an object.
async fn find_newest_warning(cluster: &Cluster, namespace: &str, name: &str) -> Option<String> {
    let events = cluster.list_objects::<Event>(ObjectScope::Namespace(namespace), "").await.ok()?;
    let about = |event: &&Event| {
        event.involved_object.name.as_deref() == Some(name)
            && event.type_.as_deref() == Some("Warning")
            // "Back-off restarting" only repeats that something failed; other events say what.
            && event.reason.as_deref() != Some("BackOff")
    };
    // Which of the time stamps an event has depends on the version of the API that wrote it.
    let newest = events.iter().filter(about).max_by_key(|event| {
        let time = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
        time.or(event.metadata.creation_timestamp.as_ref()).map(|time| time.0)
    })?;
    newest.message.clone()
}

fn shorten_to_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
