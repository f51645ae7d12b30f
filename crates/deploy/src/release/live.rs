//! Waiting with a view of what is pending and why: the pods behind each object that is not up, in the
//! node's own words, the last lines of a program that fails, claims without a volume.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cluster::objects::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use cluster::objects::api::storage::v1::StorageClass;
use cluster::{Cluster, Scope, of_pod};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::error::{Error, Result};
use super::workloads::{Pods, Waiting, Workloads};

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(700);
/// How long something that waiting cannot help may stay so before it is believed.
const BELIEVED: Duration = Duration::from_secs(8);
/// Last lines of a failing program that are shown.
const LINES: u32 = 5;
/// Pods whose logs are read at once.
const MOST_LOGS: usize = 5;

/// Something that is not up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// `Deployment shop/web`.
    pub object: String,
    /// Why: one line.
    pub why: String,
    /// What to do.
    pub next: String,
    /// The last lines of a program that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Whether waiting cannot help.
    #[serde(skip)]
    pub is_final: bool,
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.why, self.next)
    }
}

/// How a release comes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The release.
    pub release: String,
    /// What is being done.
    pub doing: String,
    /// Objects that are up.
    pub ready: usize,
    /// Objects that have to come up.
    pub of: usize,
    /// Those that are not.
    pub pending: Vec<Pending>,
}

/// Who is shown how it goes.
pub trait Watch: Send + Sync {
    /// How a release comes along now.
    fn show(&self, view: &View);
    /// Something that was done and is worth a line of its own.
    fn note(&self, message: &str);
}

/// Waits until all is up. [`Error::NotReady`] when it is not in time, or cannot come up.
pub(super) async fn wait(
    cluster: &Cluster,
    workloads: &Workloads,
    release: (&str, &str),
    timeout: Duration,
    watch: &dyn Watch,
) -> Result<()> {
    let started = Instant::now();
    let mut hopeless: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let pending = pending(cluster, workloads).await?;
        watch.show(&view(release.0, "waiting", workloads, &pending));
        if pending.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        hopeless
            .retain(|object, _| pending.iter().any(|one| one.is_final && one.object == *object));
        for one in pending.iter().filter(|one| one.is_final) {
            hopeless.entry(one.object.clone()).or_insert(now);
        }
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

/// Shows how it goes as long as it is polled; never ends. For the time that helm is at work.
pub(super) async fn look_on(
    cluster: &Cluster,
    workloads: &Workloads,
    release: &str,
    watch: &dyn Watch,
) {
    loop {
        sleep(PERIOD).await;
        // What is not there yet is helm's to make; an API server that stumbles is told by helm.
        let pending = pending(cluster, workloads).await.unwrap_or_default();
        let pending: Vec<_> = pending.into_iter().filter(|one| !one.next.is_empty()).collect();
        watch.show(&view(release, "helm is at work", workloads, &pending));
    }
}

fn view(release: &str, doing: &str, workloads: &Workloads, pending: &[Pending]) -> View {
    let of = workloads.ids.len();
    View {
        release: release.to_owned(),
        doing: doing.to_owned(),
        ready: of.saturating_sub(pending.len()),
        of,
        pending: pending.to_vec(),
    }
}

/// What is not up, and why.
pub(super) async fn pending(cluster: &Cluster, workloads: &Workloads) -> Result<Vec<Pending>> {
    let waiting = workloads.waiting(cluster).await?;
    if waiting.is_empty() {
        return Ok(vec![]);
    }
    let mut pods = BTreeMap::new();
    for namespace in workloads.namespaces() {
        pods.insert(namespace.clone(), Pods::of(cluster, &namespace).await?);
    }
    let mut all = Vec::new();
    for one in &waiting {
        let namespace = one.id.namespace.as_deref().unwrap_or_default();
        let Some(pods) = pods.get(namespace) else { continue };
        if one.id.kind == "PersistentVolumeClaim" && !is_waited_for(cluster, one, pods).await {
            continue;
        }
        all.push(explain(cluster, one, namespace, pods, all.len()).await);
    }
    Ok(all)
}

/// A claim is bound when its first pod comes, if its class says so: without a pod nothing is missing.
async fn is_waited_for(cluster: &Cluster, claim: &Waiting, pods: &Pods) -> bool {
    let is_used = pods.pods.iter().any(|pod| claims(pod).any(|name| name == claim.id.name));
    if is_used {
        return true;
    }
    let namespace = claim.id.namespace.as_deref().unwrap_or_default();
    let (name, scope) = (&claim.id.name, Scope::Namespace(namespace));
    let Ok(Some(found)) = cluster.get::<PersistentVolumeClaim>(scope, name).await else {
        return true;
    };
    let class = found.spec.and_then(|spec| spec.storage_class_name);
    let Some(class) = class else { return true };
    let class = cluster.get::<StorageClass>(Scope::Cluster, &class).await;
    !matches!(class, Ok(Some(class))
        if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

async fn explain(
    cluster: &Cluster,
    waiting: &Waiting,
    namespace: &str,
    pods: &Pods,
    number: usize,
) -> Pending {
    let object = waiting.id.to_string();
    let mut own: Vec<&Pod> = pods.owned_by(&waiting.uid).collect();
    // The newest first: what an upgrade brings is what is waited for.
    own.sort_by_key(|pod| {
        std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
    });
    let failing = own.iter().find_map(|pod| Some((*pod, of_pod(pod)?)));
    let Some((pod, reason)) = failing else {
        let (why, next) = without_pod(cluster, waiting, namespace).await;
        return Pending { object, why, next, log: vec![], is_final: waiting.is_final };
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut why = format!("pod {name}: {}", reason.why);
    let mut next = reason.next;
    if let Some((claim, cause, help)) = unbound(cluster, namespace, pod).await {
        why = format!("pod {name} waits for the claim {claim}: {cause}");
        next = help;
    } else if let Some(warning) = warning(cluster, namespace, name).await
        && !why.contains(&warning)
    {
        why = format!("{why} ({})", one_line(&warning));
    }
    let log = match failing_container(pod) {
        Some(container) if number < MOST_LOGS => {
            let log = cluster.logs(namespace, name, Some(&container), Some(LINES)).await;
            log.unwrap_or_default().lines().map(str::to_owned).collect()
        }
        _ => vec![],
    };
    // A pod that has ended is replaced by its controller, which says when it gives up.
    let is_final = match waiting.id.kind.as_str() {
        "Job" => waiting.is_final,
        "Pod" => reason.is_final,
        _ => reason.is_final && !next.contains("log"),
    };
    Pending { object, why, next, log, is_final }
}

/// Why an object has no pods: its controller's words.
async fn without_pod(cluster: &Cluster, waiting: &Waiting, namespace: &str) -> (String, String) {
    let words = warning(cluster, namespace, &waiting.id.name).await;
    let why = match &words {
        Some(words) if !waiting.why.contains(words) => {
            format!("{} ({})", waiting.why, one_line(words))
        }
        _ => waiting.why.clone(),
    };
    let lower = why.to_lowercase();
    let next = if waiting.id.kind == "PersistentVolumeClaim" {
        let name = (waiting.id.name.as_str(), namespace);
        match claim(cluster, name.1, name.0).await {
            Some((cause, help)) => return (cause, help),
            None => "wait",
        }
    } else if lower.contains("exceeded quota") {
        "raise the namespace's quota, or ask for less in the values"
    } else if lower.contains("podsecurity") || lower.contains("violates") {
        "set the security context in the values, or another --pod-security level"
    } else if lower.contains("serviceaccount") && lower.contains("not found") {
        "make the service account that it names"
    } else if lower.contains("admission webhook") {
        "its policy says what it wants"
    } else if waiting.is_final {
        "read its log and its events"
    } else {
        "wait"
    };
    (why, next.to_owned())
}

/// The first claim of a pod that has no volume: its name, why, and what to do.
async fn unbound(
    cluster: &Cluster,
    namespace: &str,
    pod: &Pod,
) -> Option<(String, String, String)> {
    let is_scheduled = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if is_scheduled {
        return None;
    }
    for name in claims(pod) {
        if let Some((cause, help)) = claim(cluster, namespace, name).await {
            return Some((name.to_owned(), cause, help));
        }
    }
    None
}

/// Why a claim has no volume, and what to do; `None` when it has one, or nothing is wrong.
async fn claim(cluster: &Cluster, namespace: &str, name: &str) -> Option<(String, String)> {
    let scope = Scope::Namespace(namespace);
    let Ok(found) = cluster.get::<PersistentVolumeClaim>(scope, name).await else { return None };
    let Some(found) = found else {
        let help = format!("make it: gantry models push … --to pvc://{namespace}/{name} --create");
        return Some(("it is not there".to_owned(), help));
    };
    if found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound") {
        return None;
    }
    let class = found.spec.and_then(|spec| spec.storage_class_name);
    if let (Some(class), Ok(all)) = (&class, cluster.list::<StorageClass>(Scope::Cluster, "").await)
        && !class.is_empty()
    {
        let names: Vec<String> = all.into_iter().filter_map(|one| one.metadata.name).collect();
        if !names.contains(class) {
            let help = format!(
                "name another storage class in the values (there is: {})",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
            return Some((format!("there is no storage class {class}"), help));
        }
    }
    if class.is_none() {
        let help = "name a storage class in the values, or make one the default".to_owned();
        return Some(("it names no storage class, and no class is the default".to_owned(), help));
    }
    let words = warning(cluster, namespace, name).await?;
    let help = "read the words of the storage class's provisioner".to_owned();
    Some((one_line(&words), help))
}

fn claims(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// The container whose log says why the pod is not up.
fn failing_container(pod: &Pod) -> Option<String> {
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

/// The newest warning about an object.
async fn warning(cluster: &Cluster, namespace: &str, name: &str) -> Option<String> {
    let events = cluster.list::<Event>(Scope::Namespace(namespace), "").await.ok()?;
    let about = |event: &&Event| {
        event.involved_object.name.as_deref() == Some(name)
            && event.type_.as_deref() == Some("Warning")
            // Said by the way; what comes after it says what is wrong.
            && event.reason.as_deref() != Some("BackOff")
    };
    let newest = events.iter().filter(about).max_by_key(|event| {
        let time = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
        time.or(event.metadata.creation_timestamp.as_ref()).map(|time| time.0)
    })?;
    newest.message.clone()
}

fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
