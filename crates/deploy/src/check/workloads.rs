//! Check `workloads`: the Deployments, StatefulSets, DaemonSets and Jobs of the releases are ready.

use cluster::objects::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use cluster::objects::api::batch::v1::Job;
use cluster::{ObjectScope, TypedObject};

use super::{
    CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState, ReleaseExpectation,
};
use crate::readiness::{self, JobStatus, WorkloadStatus};

/// Checks the workloads of all releases.
pub(super) async fn check_workloads(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for release in &subject.releases {
        match check_release_workloads(subject, release).await {
            Ok(own) if own.is_empty() => {
                findings.push(report_missing_release(subject, release, CheckName::Workloads));
            }
            Ok(own) => findings.extend(own),
            Err(error) => {
                let what = format!("workloads of {}", release.name);
                let place = &release.namespace;
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Workloads,
                    place,
                    what,
                    &error,
                    FindingState::Failed,
                ));
            }
        }
    }
    if findings.is_empty() {
        let why = "there are no releases, as gantry.lock has no charts";
        findings.push(CheckFinding::skipped(CheckName::Workloads, "cluster", "workloads", why));
    }
    findings
}

/// Reports a release of which nothing is in the cluster.
pub(super) fn report_missing_release(
    subject: &CheckSubject,
    release: &CheckedRelease,
    name: CheckName,
) -> CheckFinding {
    let what = format!("release {}", release.name);
    let why = "the namespace has no objects of it";
    match subject.deployed {
        ReleaseExpectation::Required => CheckFinding::failed(name, &release.namespace, what)
            .with_reason(
                why,
                format!("deploy it: gantry deploy --site site.yaml {}", release.name),
            ),
        ReleaseExpectation::Optional => {
            CheckFinding::skipped(name, &release.namespace, what, "not deployed yet")
        }
    }
}

/// Checks the workloads of one release.
async fn check_release_workloads(
    subject: &CheckSubject,
    release: &CheckedRelease,
) -> cluster::Result<Vec<CheckFinding>> {
    let mut findings = Vec::new();
    for deployment in list_own_objects::<Deployment>(subject, release).await? {
        let status = readiness::judge_deployment(&deployment);
        findings.push(judge_replicas(release, "Deployment", deployment.metadata.name, status));
    }
    for set in list_own_objects::<StatefulSet>(subject, release).await? {
        let mut status = readiness::judge_stateful_set(&set);
        // Unlike a Deployment it has no condition for pods that cannot be created, only events.
        if let (Some(name), true) = (&set.metadata.name, status.ready < status.wanted) {
            status.message = subject.cluster.latest_warning(&release.namespace, name).await;
        }
        findings.push(judge_replicas(release, "StatefulSet", set.metadata.name, status));
    }
    for set in list_own_objects::<DaemonSet>(subject, release).await? {
        let status = readiness::judge_daemon_set(&set);
        findings.push(judge_replicas(release, "DaemonSet", set.metadata.name, status));
    }
    for job in list_own_objects::<Job>(subject, release).await? {
        findings.push(judge_job(release, &job));
    }
    Ok(findings)
}

/// Lists the objects of a kind that belong to a release.
async fn list_own_objects<K: TypedObject>(
    subject: &CheckSubject,
    release: &CheckedRelease,
) -> cluster::Result<Vec<K>> {
    let mut all =
        subject.cluster.list_objects::<K>(ObjectScope::Namespace(&release.namespace), "").await?;
    all.retain(|object| release.is_owner_of(object.meta()));
    Ok(all)
}

/// Judges a workload with replicas.
fn judge_replicas(
    release: &CheckedRelease,
    kind: &str,
    name: Option<String>,
    status: WorkloadStatus,
) -> CheckFinding {
    let what = format!("{kind} {}", name.unwrap_or_default());
    let place = &release.namespace;
    if status.is_ready {
        let why = match status.wanted {
            0 => "scaled to zero".to_owned(),
            wanted => format!("{} of {wanted} ready", status.ready),
        };
        return CheckFinding::ok(CheckName::Workloads, place, what, why);
    }
    let advice = status.message.as_deref().and_then(readiness::advise_on_rejection);
    let next = advice.unwrap_or("see the findings about its pods below");
    CheckFinding::failed(CheckName::Workloads, place, what).with_reason(status.describe(), next)
}

/// Judges a job.
fn judge_job(release: &CheckedRelease, job: &Job) -> CheckFinding {
    let what = format!("Job {}", job.metadata.name.as_deref().unwrap_or_default());
    let place = &release.namespace;
    let failed = match readiness::judge_job(job) {
        JobStatus::Complete => {
            return CheckFinding::ok(CheckName::Workloads, place, what, "it has completed");
        }
        JobStatus::Suspended => {
            return CheckFinding::ok(CheckName::Workloads, place, what, "it is suspended");
        }
        JobStatus::Failed(words) => {
            let why = if words.is_empty() { "it failed".to_owned() } else { words };
            let next = "read the log of its pods (below), then delete it and deploy again";
            return CheckFinding::failed(CheckName::Workloads, place, what).with_reason(why, next);
        }
        JobStatus::Running { failed } => failed,
    };
    let why = match failed {
        0 => "it is still running".to_owned(),
        1 => "it is still running, after 1 failed attempt".to_owned(),
        times => format!("it is still running, after {times} failed attempts"),
    };
    CheckFinding::warning(CheckName::Workloads, place, what)
        .with_reason(why, "wait, or watch it with: gantry check --watch")
}
