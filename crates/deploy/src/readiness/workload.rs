//! Workloads by the status that their controllers report. The conditions are the same as in `kubectl
//! rollout status` (kubectl, `polymorphichelpers`).

use cluster::objects::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use cluster::objects::api::batch::v1::Job;

/// How far a workload with replicas is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkloadStatus {
    /// The replicas that are ready and of the newest revision.
    pub(crate) ready: i32,
    /// The replicas that it should have.
    pub(crate) wanted: i32,
    /// Whether nothing is left to be done: no old pods, and the controller has seen the newest revision.
    pub(crate) is_ready: bool,
    /// What its controller says about it, if it says something.
    pub(crate) message: Option<String>,
    /// Whether pods of the revision before still terminate.
    is_replacing: bool,
}

impl WorkloadStatus {
    /// The status in words: `1 of 2 ready; old pods are terminating`.
    pub(crate) fn describe(&self) -> String {
        let Self { ready, wanted, .. } = self;
        match &self.message {
            Some(message) => format!("{ready} of {wanted} ready: {message}"),
            None if self.is_replacing => {
                format!("{ready} of {wanted} ready; old pods are terminating")
            }
            None => format!("{ready} of {wanted} ready"),
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobStatus {
    /// It has completed.
    Complete,
    /// Somebody suspended it, so it will not run.
    Suspended,
    /// It failed for good, with the reason.
    Failed(String),
    /// It is running.
    Running {
        /// The attempts that failed so far.
        failed: i32,
    },
}

/// Judges a Deployment.
pub(crate) fn judge_deployment(deployment: &Deployment) -> WorkloadStatus {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    // Until the controller has seen the new specification, its numbers are those of the old one.
    let is_seen = status.observed_generation >= deployment.metadata.generation;
    let updated = status.updated_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    // The pods of the revision before have to be gone, so that the answers come from the new ones.
    let is_replacing = status.replicas.unwrap_or(0) > updated;
    let ready = updated.min(available);
    // Quotas and admission webhooks reject pods, not the Deployment; ReplicaFailure has the reason.
    // Progressing turns false after `progressDeadlineSeconds`.
    let told = status.conditions.into_iter().flatten().find(|one| {
        (one.type_ == "ReplicaFailure" && one.status == "True")
            || (one.type_ == "Progressing" && one.status == "False")
    });
    WorkloadStatus {
        ready,
        wanted,
        is_ready: is_seen && ready >= wanted && !is_replacing,
        message: told.and_then(|one| one.message),
        is_replacing,
    }
}

/// Judges a StatefulSet.
pub(crate) fn judge_stateful_set(set: &StatefulSet) -> WorkloadStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    // With the strategy OnDelete, or below a partition, old pods stay until somebody deletes them:
    // waiting for them would never end.
    let is_rolling = strategy.type_.as_deref() != Some("OnDelete")
        && strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0) == 0;
    let is_replacing = is_rolling && status.current_revision != status.update_revision;
    let ready = status.ready_replicas.unwrap_or(0);
    let is_ready = is_seen && !is_replacing && ready >= wanted;
    WorkloadStatus { ready, wanted, is_ready, message: None, is_replacing }
}

/// Judges a DaemonSet.
pub(crate) fn judge_daemon_set(set: &DaemonSet) -> WorkloadStatus {
    let status = set.status.clone().unwrap_or_default();
    let is_seen = status.observed_generation >= set.metadata.generation;
    let wanted = status.desired_number_scheduled;
    let ready =
        status.updated_number_scheduled.unwrap_or(0).min(status.number_available.unwrap_or(0));
    let is_ready = is_seen && ready >= wanted;
    WorkloadStatus { ready, wanted, is_ready, message: None, is_replacing: false }
}

/// Judges a Job.
pub(crate) fn judge_job(job: &Job) -> JobStatus {
    let status = job.status.clone().unwrap_or_default();
    let condition = |kind: &str| {
        let mut all = status.conditions.iter().flatten();
        all.find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if condition("Complete").is_some() {
        return JobStatus::Complete;
    }
    if let Some(failed) = condition("Failed") {
        let words = failed.message.clone().or_else(|| failed.reason.clone());
        return JobStatus::Failed(words.unwrap_or_default());
    }
    // A suspended job is a decision of its author, and would never complete.
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return JobStatus::Suspended;
    }
    JobStatus::Running { failed: status.failed.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cluster::objects::serde_json::{from_value, json};

    #[test]
    fn a_controller_s_numbers_say_whether_it_is_up() {
        let set = |ready: i32, current: &str| -> StatefulSet {
            from_value(
                json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "serviceName": "s",
                "selector": {}, "template": {}}, "status": {"observedGeneration": 2, "replicas": 2,
                "readyReplicas": ready, "currentRevision": current, "updateRevision": "b"}}),
            )
            .unwrap()
        };
        assert!(judge_stateful_set(&set(2, "b")).is_ready);
        assert_eq!(judge_stateful_set(&set(1, "b")).describe(), "1 of 2 ready");
        let replacing = judge_stateful_set(&set(2, "a"));
        assert!(!replacing.is_ready && replacing.describe().contains("old pods are terminating"));
        let deployment: Deployment =
            from_value(json!({"spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "conditions": [
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}}))
            .unwrap();
        assert_eq!(judge_deployment(&deployment).describe(), "1 of 2 ready: exceeded quota");
        let failed: Job = from_value(json!({"status": {"conditions": [
            {"type": "Failed", "status": "True", "message": "it has reached its limit"}]}}))
        .unwrap();
        assert_eq!(judge_job(&failed), JobStatus::Failed("it has reached its limit".to_owned()));
        let suspended: Job =
            from_value(json!({"spec": {"suspend": true, "template": {}}})).unwrap();
        assert_eq!(judge_job(&suspended), JobStatus::Suspended);
    }
}
