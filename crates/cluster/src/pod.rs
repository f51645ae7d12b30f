//! Gantry's own pods: start one, wait for it, read its log, remove it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, LogParams};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::claim_reason::event_time;
use crate::{
    Cluster, Error, NotReadyCause, NotReadyReason, ObjectScope, Result, SettlingPods, explain_pod,
    is_being_deleted, is_own,
};

/// How often a pod's state is read while waiting.
const PERIOD: Duration = Duration::from_millis(300);
/// How often the claims of a pod without a node are looked at: each look takes three requests.
const CLAIM_PERIOD: Duration = Duration::from_secs(2);
/// How long a claim has to look beyond hope before the wait for its pod ends: the cluster binds some
/// claims seconds after it said that it cannot.
const CLAIM_BELIEVED: Duration = Duration::from_secs(4);
/// How long a reason has to last before it is reported: most of them pass in a moment.
const REPORTED_AFTER: Duration = Duration::from_secs(4);
/// How long the cluster may take to remove a pod that is deleted without a grace period.
const GONE: Duration = Duration::from_secs(60);
/// The most bytes of a log that are read.
const LONGEST_LOG: i64 = 1 << 20;

/// The state of a pod to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum AwaitedPodState {
    /// All its containers are running.
    Running,
    /// Its probes say that it is ready. A container without a readiness probe has to run for a
    /// while, see [`SettlingPods`].
    Ready,
    /// It has ended, with success or without.
    Ended,
}

impl Cluster {
    /// Starts one of Gantry's own pods. A pod of the same name that still runs is left as it is;
    /// one that has ended is removed first. [`Error::NotOurs`] when somebody else created it.
    pub async fn start_pod(&self, namespace: &str, pod: &Pod) -> Result<()> {
        let scope = ObjectScope::Namespace(namespace);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if let Some(present) = self.get_object::<Pod>(scope, name).await? {
            if !is_own(&present.metadata) {
                return Err(Error::NotOurs {
                    what: format!("Pod {namespace}/{name}"),
                    next: "delete it and run the command again".to_owned(),
                });
            }
            if !has_ended(&present) && !is_being_deleted(&present) {
                return Ok(());
            }
            // A pod that has ended or is being deleted cannot start again, and blocks its name.
            self.remove_pod(namespace, name).await?;
        }
        self.create_object(scope, pod).await.map(drop)
    }

    /// Waits for a state of a pod.
    ///
    /// # Errors
    /// The error explains why the pod is not in that state. It comes after the timeout, or at once
    /// when waiting cannot help.
    pub async fn wait_for_pod(
        &self,
        namespace: &str,
        name: &str,
        until: AwaitedPodState,
        timeout: Duration,
    ) -> Result<Pod> {
        self.wait_and_report_pod(namespace, name, until, timeout, &mut |_| {}).await
    }

    /// As [`Cluster::wait_for_pod`]. `report` gets every reason that lasts for some seconds, once: a wait
    /// of minutes must not be silent.
    pub async fn wait_and_report_pod(
        &self,
        namespace: &str,
        name: &str,
        until: AwaitedPodState,
        timeout: Duration,
        report: &mut (dyn FnMut(&NotReadyReason) + Send),
    ) -> Result<Pod> {
        let what = format!("Pod {namespace}/{name}");
        let deadline = Instant::now() + timeout;
        let mut settling = SettlingPods::default();
        let mut claims = ClaimWatch::default();
        let mut lasting = LastingReason::default();
        loop {
            let Some(pod) = self.get_object::<Pod>(ObjectScope::Namespace(namespace), name).await?
            else {
                let next = "it was deleted meanwhile; run the command again".to_owned();
                return Err(Error::Missing { what, next });
            };
            if has_reached_state(&pod, until) {
                if until != AwaitedPodState::Ready || settling.have_settled([&pod]) {
                    return Ok(pod);
                }
                // Also past the deadline: it takes seconds, and the pod looks well.
                sleep(PERIOD).await;
                continue;
            }
            // No reason means that the pod is ready or has succeeded. Waiting for `Running` or
            // `Ready`, a pod that has succeeded will never get there.
            let reason = explain_pod(&pod).unwrap_or_else(|| NotReadyReason {
                why: "it has ended".to_owned(),
                next: "read its log".to_owned(),
                is_final: until != AwaitedPodState::Ended,
                cause: NotReadyCause::Ended,
            });
            let (reason, is_hopeless) = claims.look(self, namespace, &pod, reason).await;
            if is_hopeless || Instant::now() > deadline {
                return Err(self.not_ready_error(what, namespace, name, reason).await);
            }
            if lasting.is_due(&reason) {
                report(&reason);
            }
            sleep(PERIOD).await;
        }
    }

    /// Reads a container's log, at most 1 MiB, or its last `lines`. `container` may be `None` if
    /// the pod has only one.
    pub async fn read_logs(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        lines: Option<u32>,
    ) -> Result<String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = LogParams {
            container: container.map(str::to_owned),
            limit_bytes: Some(LONGEST_LOG),
            tail_lines: lines.map(i64::from),
            ..LogParams::default()
        };
        let log = api.logs(pod, &params).await;
        log.map_err(|error| {
            Error::from_kube(format!("reading the log of Pod {namespace}/{pod}"), error)
        })
    }

    /// Removes one of Gantry's own pods at once, and waits until it is gone.
    pub async fn remove_pod(&self, namespace: &str, name: &str) -> Result<()> {
        let what = format!("Pod {namespace}/{name}");
        let Some(pod) = self.get_object::<Pod>(ObjectScope::Namespace(namespace), name).await?
        else {
            return Ok(());
        };
        if !is_own(&pod.metadata) {
            let next = "it is left as it is".to_owned();
            return Err(Error::NotOurs { what, next });
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams::background().grace_period(0);
        match api.delete(name, &params).await {
            Err(error) if !Error::is_not_found(&error) => {
                return Err(Error::from_kube(format!("deleting {what}"), error));
            }
            _ => {}
        }
        let deadline = Instant::now() + GONE;
        while let Some(now) =
            self.get_object::<Pod>(ObjectScope::Namespace(namespace), name).await?
        {
            // A new pod of the same name: the old one is gone.
            if now.metadata.uid != pod.metadata.uid {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady {
                    what,
                    why: format!("it was deleted and is still there after {} s", GONE.as_secs()),
                    next: "check that its node is running".to_owned(),
                });
            }
            sleep(PERIOD).await;
        }
        Ok(())
    }

    /// Whether an object has an event with this reason, such as `FailedToRetrieveImagePullSecret` of the
    /// kubelet. `false` where events cannot be read.
    pub async fn has_event(&self, namespace: &str, name: &str, reason: &str) -> bool {
        let events = self.list_objects::<Event>(ObjectScope::Namespace(namespace), "").await;
        events.is_ok_and(|events| {
            events.iter().any(|event| {
                event.involved_object.name.as_deref() == Some(name)
                    && event.reason.as_deref() == Some(reason)
            })
        })
    }

    /// The newest warning among an object's events, if there is one: usually the message of the kubelet
    /// or of the object's controller.
    pub async fn latest_warning(&self, namespace: &str, name: &str) -> Option<String> {
        let events =
            self.list_objects::<Event>(ObjectScope::Namespace(namespace), "").await.ok()?;
        let about = |event: &&Event| {
            event.involved_object.name.as_deref() == Some(name)
                && event.type_.as_deref() == Some("Warning")
                // "Back-off restarting" only repeats that something failed; other events say what.
                && event.reason.as_deref() != Some("BackOff")
        };
        events.iter().filter(about).max_by_key(|event| event_time(event))?.message.clone()
    }

    /// The error of a pod that is not ready, with its latest warning where that adds something.
    async fn not_ready_error(
        &self,
        what: String,
        namespace: &str,
        name: &str,
        reason: NotReadyReason,
    ) -> Error {
        let why = match self.latest_warning(namespace, name).await {
            Some(warning) if !reason.why.contains(&warning) => {
                format!("{} (its last event: {warning})", reason.why)
            }
            _ => reason.why,
        };
        Error::NotReady { what, why, next: reason.next }
    }
}

/// The claims of a pod that has no node: their reasons say more than the scheduler's.
#[derive(Default)]
struct ClaimWatch {
    looked: Option<Instant>,
    /// The last reason, with the name of its claim.
    seen: Option<(String, NotReadyReason)>,
    hopeless_since: Option<Instant>,
}

impl ClaimWatch {
    /// The reason why the pod is not ready, which is that of a claim if one is missing, and whether
    /// waiting longer cannot help.
    async fn look(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        pod: &Pod,
        reason: NotReadyReason,
    ) -> (NotReadyReason, bool) {
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now - looked >= CLAIM_PERIOD) {
            self.looked = Some(now);
            self.seen = cluster.explain_claims_of_pod(namespace, pod).await;
            if self.seen.as_ref().is_some_and(|(_, reason)| reason.is_final) {
                self.hopeless_since.get_or_insert(now);
            } else {
                self.hopeless_since = None;
            }
        }
        let Some((claim, unbound)) = &self.seen else {
            let is_final = reason.is_final;
            return (reason, is_final);
        };
        let reason = NotReadyReason {
            why: format!("it waits for the claim {claim}: {}", unbound.why),
            ..unbound.clone()
        };
        (reason, self.hopeless_since.is_some_and(|since| now - since >= CLAIM_BELIEVED))
    }
}

/// The current reason, and since when it lasts.
#[derive(Default)]
struct LastingReason {
    current: Option<(String, Instant)>,
    is_reported: bool,
}

impl LastingReason {
    /// Whether this reason has lasted long enough to be reported, and was not yet.
    fn is_due(&mut self, reason: &NotReadyReason) -> bool {
        let now = Instant::now();
        match &self.current {
            Some((why, since)) if *why == reason.why => {
                let is_due = !self.is_reported && now - *since >= REPORTED_AFTER;
                self.is_reported |= is_due;
                is_due
            }
            _ => {
                self.current = Some((reason.why.clone(), now));
                self.is_reported = false;
                false
            }
        }
    }
}

/// Whether a pod is in the state that is waited for.
fn has_reached_state(pod: &Pod, until: AwaitedPodState) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match until {
        AwaitedPodState::Ended => has_ended(pod),
        AwaitedPodState::Ready => phase == Some("Running") && explain_pod(pod).is_none(),
        AwaitedPodState::Running => {
            let statuses =
                pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            phase == Some("Running")
                && statuses.is_some_and(|all| {
                    all.iter()
                        .all(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()))
                })
        }
    }
}

/// Whether a pod has ended and is not started again: its phase is Succeeded or Failed.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
