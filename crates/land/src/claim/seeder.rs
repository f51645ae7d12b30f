//! Runs an order in a seeder pod: starts the pod or takes over the one that is there, follows the
//! order, resumes when the pod or the connection breaks, and removes the pod in the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::objects::api::apps::v1::DaemonSet;
use cluster::objects::api::core::v1::Pod;
use cluster::{AwaitedPodState, Cluster, NotReadyReason, ObjectScope, Permission};
use net::BandwidthLimit;
use store::Source;
use store::progress::Progress;
use tokio::time::sleep;

use super::error::{Error, Result};
use super::order::{SeederEvent, SeederOrder, SeederTask};
use super::pod::{self, SeederImage, VolumeUse};
use super::pod_session::{self, SessionProgress};
use super::volume::ClaimVolume;
use types::destination::ClaimFolder;

/// Breaks in a row without any progress in between, after which the push fails. A node that restarts or
/// an API server that is rolled out breaks a connection once or twice.
const MOST_BREAKS: u32 = 5;
/// The wait after a break, and between two tries at a pod that another push uses.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs orders in pods that mount volumes, and remembers what it started.
pub struct Seeder {
    cluster: Cluster,
    image: SeederImage,
    progress: Arc<dyn Progress>,
    /// How long a pod may take until it runs.
    timeout: Duration,
    /// What this process started and has to remove.
    started: Mutex<Vec<StartedWorkload>>,
    bandwidth: Option<BandwidthLimit>,
}

impl Seeder {
    /// A seeder whose pods run this image and have to run within `timeout`.
    pub fn new(
        cluster: Cluster,
        image: SeederImage,
        timeout: Duration,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self { cluster, image, progress, timeout, started: Mutex::default(), bandwidth: None }
    }

    /// The most bytes per second: of all that this process sends to pods together, and of what all pods
    /// download from a registry.
    #[must_use]
    pub fn limit_bandwidth(mut self, limit: BandwidthLimit) -> Self {
        self.bandwidth = Some(limit);
        self
    }

    /// The order with this seeder's limit, for one of so many pods that work at the same time.
    pub(super) fn limit_order(&self, order: &SeederOrder, pods: u64) -> SeederOrder {
        let mut order = order.clone();
        if let (Some(limit), SeederTask::Put { registry: Some(registry), .. }) =
            (&self.bandwidth, &mut order.task)
        {
            registry.bytes_per_second = Some(limit.per_second().div_ceil(pods.max(1)));
        }
        order
    }

    /// The rights that work on these claims needs, with those to make claims where `creates` says so.
    pub fn required_rights(paths: &[ClaimFolder], creates: ClaimCreation) -> Vec<Permission> {
        let mut rights = Vec::new();
        for path in paths {
            let mut need = |verb: &str, resource: &str| {
                let right = Permission::new(verb, "", resource).in_namespace(&path.namespace);
                if !rights.contains(&right) {
                    rights.push(right);
                }
            };
            need("get", "persistentvolumeclaims");
            if creates == ClaimCreation::WhenMissing {
                need("create", "persistentvolumeclaims");
            }
            for verb in ["get", "list", "create", "delete"] {
                need(verb, "pods");
            }
            // Over WebSockets it is a GET; from Kubernetes 1.35 on, create is asked for as well.
            need("get", "pods/exec");
            need("create", "pods/exec");
        }
        if creates == ClaimCreation::WhenMissing {
            rights.push(Permission::new("list", "storage.k8s.io", "storageclasses"));
        }
        rights
    }

    /// Runs an order in a pod that mounts the claim (which is made first where it has to be), and
    /// returns the last event. `source` has the blobs that the pod may ask this process for.
    pub async fn run_order(
        &self,
        volume: &ClaimVolume,
        usage: VolumeUse,
        order: &SeederOrder,
        source: Option<Arc<dyn Source>>,
    ) -> Result<SeederEvent> {
        let namespace = &volume.path.namespace;
        if volume.create_claim(&self.cluster).await? {
            self.progress.add_note(&format!("created {}", volume.path));
        }
        let pod = pod::build_claim_pod(&self.cluster, volume, &self.image, usage).await?;
        let start = async || self.start_pod(volume, &pod).await;
        let what = volume.path.to_string();
        let mount = ClaimFolder { folder: String::new(), ..volume.path.clone() }.to_string();
        let order = self.limit_order(order, 1);
        self.run_order_with_retries(namespace, (&what, &mount), &order, source, start).await
    }

    /// Runs an order, and starts it again after a break until it is done. `start` starts the pod, or
    /// finds the one that runs, and gives its name; `what` and `mount` name the target and the volume
    /// in messages. The pod keeps what it wrote, so each new start resumes.
    pub(super) async fn run_order_with_retries(
        &self,
        namespace: &str,
        (what, mount): (&str, &str),
        order: &SeederOrder,
        source: Option<Arc<dyn Source>>,
        start: impl AsyncFn() -> Result<String>,
    ) -> Result<SeederEvent> {
        let mut tally = SessionProgress::new(Arc::clone(&self.progress));
        let (mut breaks, mut waits) = (0, 0_u32);
        loop {
            let name = match start().await {
                // Another push made or removed the pod between our look at it and our request.
                Err(Error::Cluster(
                    cluster::Error::Conflict { .. } | cluster::Error::Missing { .. },
                )) if breaks < MOST_BREAKS => {
                    breaks += 1;
                    sleep(PAUSE).await;
                    continue;
                }
                started => started?,
            };
            let before = tally.reported_bytes();
            let talk = pod_session::PodSession {
                cluster: &self.cluster,
                namespace,
                pod: &name,
                what,
                mount,
                bandwidth: self.bandwidth.clone(),
            };
            let began =
                || self.track_started(StartedWorkload::Pod(namespace.to_owned(), name.clone()));
            let outcome = talk.run(order, source.clone(), &mut tally, began).await?;
            match outcome {
                pod_session::SessionEnd::Finished(event) => return Ok(event),
                pod_session::SessionEnd::Busy => {
                    if waits == 0 {
                        let note =
                            format!("another push writes to {what}: waiting until it has finished");
                        self.progress.add_note(&note);
                    }
                    waits = waits.saturating_add(1);
                    // The pod is the other push's: it must not be removed when this one is stopped.
                    self.untrack_started(&StartedWorkload::Pod(namespace.to_owned(), name));
                }
                pod_session::SessionEnd::Broken(why) => {
                    // A break after progress is the first of a new row: a long push over a poor line may
                    // break often.
                    breaks = if tally.reported_bytes() > before { 1 } else { breaks + 1 };
                    if breaks >= MOST_BREAKS {
                        return Err(Error::Broken { what: what.to_owned(), why });
                    }
                    self.progress.add_note(&format!("{what}: {why}; resuming"));
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Removes the pods and DaemonSets that this process started. It has to be called in every case,
    /// also after a failure or Ctrl-C.
    pub async fn remove_started(&self) -> Result<()> {
        let held = std::mem::take(&mut *self.lock_started());
        for held in held {
            match held {
                StartedWorkload::Pod(namespace, name) => {
                    self.cluster.remove_pod(&namespace, &name).await?;
                }
                StartedWorkload::DaemonSet(namespace, name) => {
                    let scope = ObjectScope::Namespace(&namespace);
                    self.cluster.delete_own_object::<DaemonSet>(scope, &name).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts the pod of a claim, or finds the one that is there, waits until it runs, and returns its
    /// name.
    async fn start_pod(&self, volume: &ClaimVolume, pod: &Pod) -> Result<String> {
        let namespace = &volume.path.namespace;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let scope = ObjectScope::Namespace(namespace);
        let present = self.cluster.get_object::<Pod>(scope, &name).await?;
        match &present {
            // A pod that another version of Gantry left: its protocol may be another one.
            Some(present)
                if cluster::is_own(&present.metadata)
                    && image_of_pod(present) != image_of_pod(pod) =>
            {
                self.cluster.remove_pod(namespace, &name).await?;
                self.track_started(StartedWorkload::Pod(namespace.clone(), name.clone()));
            }
            // Somebody else's: it is used, and its owner removes it.
            Some(_) => {}
            None => self.track_started(StartedWorkload::Pod(namespace.clone(), name.clone())),
        }
        self.cluster.start_pod(namespace, pod).await?;
        let what = volume.path.to_string();
        // A wait of minutes says what it waits for.
        let mut report = |reason: &NotReadyReason| {
            self.progress.add_note(&format!("{what}: waiting for its pod: {reason}"));
        };
        let state = AwaitedPodState::Running;
        self.cluster
            .wait_and_report_pod(namespace, &name, state, self.timeout, &mut report)
            .await?;
        Ok(name)
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn image(&self) -> &SeederImage {
        &self.image
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Remembers something that has to be removed in the end.
    pub(super) fn track_started(&self, started: StartedWorkload) {
        let mut held = self.lock_started();
        if !held.contains(&started) {
            held.push(started);
        }
    }

    /// Forgets a pod that turned out to be another push's.
    fn untrack_started(&self, pod: &StartedWorkload) {
        self.lock_started().retain(|held| held != pod);
    }

    fn lock_started(&self) -> std::sync::MutexGuard<'_, Vec<StartedWorkload>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that this process started: its namespace and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StartedWorkload {
    Pod(String, String),
    DaemonSet(String, String),
}

/// Whether claims that do not exist are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimCreation {
    /// They have to exist.
    Never,
    /// They are made when they do not exist.
    WhenMissing,
}

fn image_of_pod(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.containers.first()?.image.as_deref()
}
