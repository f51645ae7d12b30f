//! Check `workloads`: the Deployments, StatefulSets, DaemonSets and Jobs of the releases are ready.

use cluster::objects::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use cluster::objects::api::batch::v1::Job;
use cluster::{ObjectScope, TypedObject};

use super::{
    CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState, ReleaseExpectation,
};

/// Checks the workloads of all releases.
pub(super) async fn check_workloads(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for release in &subject.releases {
        match check_release_workloads(subject, release).await {
            Ok(own) if own.is_empty() => {
                findings.push(report_missing_release(subject, release, CheckName::Workloads))
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
        let status = deployment.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        // ReplicaFailure has the reason of a quota or a webhook; Progressing turns false after
        // `progressDeadlineSeconds`.
        let told = conditions.into_iter().find(|one| {
            (one.type_ == "ReplicaFailure" && one.status == "True")
                || (one.type_ == "Progressing" && one.status == "False")
        });
        findings.push(judge_replicas(
            release,
            "Deployment",
            deployment.metadata.name,
            deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1),
            status.ready_replicas.unwrap_or(0),
            told.and_then(|one| one.message),
        ));
    }
    for set in list_own_objects::<StatefulSet>(subject, release).await? {
        let ready = set.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        let wanted = set.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        // Unlike a Deployment it has no condition for pods that cannot be created, only events.
        let told = match (&set.metadata.name, ready < wanted) {
            (Some(name), true) => subject.cluster.latest_warning(&release.namespace, name).await,
            _ => None,
        };
        findings.push(judge_replicas(
            release,
            "StatefulSet",
            set.metadata.name,
            wanted,
            ready,
            told,
        ));
    }
    for set in list_own_objects::<DaemonSet>(subject, release).await? {
        let status = set.status.unwrap_or_default();
        let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
        findings.push(judge_replicas(release, "DaemonSet", set.metadata.name, wanted, ready, None));
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

/// Judges a workload by its numbers of replicas. `told` is a message of its controller, if there is
/// one.
fn judge_replicas(
    release: &CheckedRelease,
    kind: &str,
    name: Option<String>,
    wanted: i32,
    ready: i32,
    told: Option<String>,
) -> CheckFinding {
    let what = format!("{kind} {}", name.unwrap_or_default());
    let place = &release.namespace;
    if ready >= wanted {
        let why = match wanted {
            0 => "scaled to zero".to_owned(),
            _ => format!("{ready} of {wanted} ready"),
        };
        return CheckFinding::ok(CheckName::Workloads, place, what, why);
    }
    let told = told.map(|message| format!(": {message}")).unwrap_or_default();
    let next = match told.contains("forbidden") || told.contains("denied") {
        true => {
            "its pods are rejected by an admission webhook, a quota or pod security: change what the message names"
        }
        false => "see the findings about its pods below",
    };
    CheckFinding::failed(CheckName::Workloads, place, what)
        .with_reason(format!("{ready} of {wanted} ready{told}"), next)
}

/// Judges a job.
fn judge_job(release: &CheckedRelease, job: &Job) -> CheckFinding {
    let what = format!("Job {}", job.metadata.name.as_deref().unwrap_or_default());
    let place = &release.namespace;
    let status = job.status.clone().unwrap_or_default();
    let is = |kind: &str| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions.iter().find(|one| one.type_ == kind && one.status == "True").cloned()
    };
    if is("Complete").is_some() {
        return CheckFinding::ok(CheckName::Workloads, place, what, "it has completed");
    }
    if let Some(failed) = is("Failed") {
        let why = failed.message.unwrap_or_else(|| "it failed".to_owned());
        let next = "read the log of its pods (below), then delete it and deploy again";
        return CheckFinding::failed(CheckName::Workloads, place, what).with_reason(why, next);
    }
    let failed = status.failed.unwrap_or(0);
    let why = match failed {
        0 => "it is still running".to_owned(),
        1 => "it is still running, after 1 failed attempt".to_owned(),
        times => format!("it is still running, after {times} failed attempts"),
    };
    CheckFinding::warning(CheckName::Workloads, place, what)
        .with_reason(why, "wait, or watch it with: gantry check --watch")
}
