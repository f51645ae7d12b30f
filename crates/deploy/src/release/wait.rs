//! Waits until a release is ready, and explains meanwhile what is missing: the pods of each object
//! that is not ready, warnings of the kubelet and of controllers, the last log lines of a failing
//! container, claims without a volume. `workloads` says which objects are waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::objects::api::core::v1::{PersistentVolumeClaim, Pod};
use cluster::objects::api::storage::v1::StorageClass;
use cluster::pod_spec::list_claims;
use cluster::{Cluster, NotReadyCause, ObjectScope, SettlingPods, explain_pod, is_being_deleted};
use tokio::time::{Instant, sleep};

use super::progress::{PendingObject, ProgressWatcher, ReleaseProgress};
use super::workloads::{AwaitedObjects, NamespacePods, UnreadyObject};
use crate::readiness;
use crate::{Error, Result};

/// The interval between two looks at the cluster: a person sees changes at once, and the API server
/// gets few requests.
const PERIOD: Duration = Duration::from_millis(700);
/// How long an object must look beyond hope before the wait ends early. Some states, such as an
/// image pull error, appear for a moment and pass; the kubelet retries the first ones within
/// seconds.
const BELIEVED: Duration = Duration::from_secs(6);
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
    // Pods that are being deleted have not failed: others take their place.
    let living = pods.pods_owned_by(&waiting.uid).filter(|pod| !is_being_deleted(pod));
    let mut own: Vec<&Pod> = living.collect();
    // The newest first: during an upgrade the old pods are ready, and the new ones are waited for.
    own.sort_by_key(|pod| {
        std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
    });
    let failing = own.iter().find_map(|pod| Some((*pod, explain_pod(pod)?)));
    let Some((pod, reason)) = failing else {
        return explain_without_pod(cluster, waiting, namespace).await;
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut why = format!("pod {name}: {}", reason.why);
    let mut next = reason.next;
    let mut is_unbound = false;
    // An unbound claim is the cause behind "unschedulable", and its own reason says more.
    if let Some((claim, unbound)) = cluster.explain_claims_of_pod(namespace, pod).await {
        why = format!("pod {name} waits for the claim {claim}: {}", shorten_to_line(&unbound.why));
        next = unbound.next;
        is_unbound = unbound.is_final;
    } else if let Some(warning) = cluster.latest_warning(namespace, name).await
        && !why.contains(&warning)
    {
        why = format!("{why} ({})", shorten_to_line(&warning));
    }
    // The log is read last, and only for the first few: the reason alone usually suffices.
    let log = match readiness::find_failing_container(pod) {
        Some(container) if number < MOST_LOGS => {
            readiness::read_last_lines(cluster, namespace, name, &container).await
        }
        _ => vec![],
    };
    // A controller replaces a pod whose container ended, so only the controller knows when to give
    // up. For a bare pod or a Job the status is final.
    let is_final = match waiting.id.kind.as_str() {
        "Job" => waiting.is_final,
        "Pod" => reason.is_final,
        _ => reason.is_final && reason.cause != NotReadyCause::Ended,
    };
    PendingObject { object, why, next, log, is_final: is_final || is_unbound }
}

/// Explains an object that has no failing pod by the warnings of its controller, with the next
/// step.
async fn explain_without_pod(
    cluster: &Cluster,
    waiting: &UnreadyObject,
    namespace: &str,
) -> PendingObject {
    let object = waiting.id.to_string();
    let name = &waiting.id.name;
    if waiting.id.kind == "PersistentVolumeClaim"
        && let Some(unbound) = cluster.explain_claim(namespace, name).await
    {
        let (why, is_final) = (shorten_to_line(&unbound.why), unbound.is_final);
        return PendingObject { object, why, next: unbound.next, log: vec![], is_final };
    }
    let words = cluster.latest_warning(namespace, name).await;
    let why = match &words {
        Some(words) if !waiting.why.contains(words) => {
            format!("{} ({})", waiting.why, shorten_to_line(words))
        }
        _ => waiting.why.clone(),
    };
    let mut next = if waiting.is_final { "read its log and its events" } else { "wait" };
    if let Some(advice) = readiness::advise_on_rejection(&why) {
        next = advice;
    }
    PendingObject { object, why, next: next.to_owned(), log: vec![], is_final: waiting.is_final }
}

fn shorten_to_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
