//! Check `models`: the files of every model are complete at the targets of `site.yaml`. A folder and a
//! bucket are read from this machine, a claim in a pod.

use cluster::Cluster;
use land::claim;
use land::models::{self, DamagedFile, ModelVerifyReport, OpenModelTarget};
use store::progress::SilentProgress;
use types::ByteSize;
use types::destination::ModelDestination;

use super::{CheckFinding, CheckName, CheckSubject, CheckedModelTarget};

/// The next step of errors that have none of their own.
const CHECK: &str = "check that the target exists";

/// Verifies the models at all targets.
pub(super) async fn check_models(subject: &CheckSubject) -> Vec<CheckFinding> {
    if subject.lock.iter().all(|lock| lock.models.is_empty()) {
        let why = "gantry.lock has no models";
        return vec![CheckFinding::skipped(CheckName::Models, "site", "models", why)];
    }
    if subject.models.is_empty() {
        let why = "site.yaml has no model targets: the models are in the registry";
        return vec![CheckFinding::skipped(CheckName::Models, "site", "models", why)];
    }
    let mut findings = Vec::new();
    for place in &subject.models {
        let skipped = |why| CheckFinding::skipped(CheckName::Models, &place.name, "models", why);
        if place.wanted.is_empty() {
            findings.push(skipped("no locked model belongs there"));
            continue;
        }
        match &place.target.to {
            ModelDestination::Depot => {
                findings.push(skipped("a depot verifies what it serves when it starts"));
            }
            _ => findings.extend(check_target(&subject.cluster, place).await),
        }
    }
    findings
}

async fn check_target(cluster: &Cluster, place: &CheckedModelTarget) -> Vec<CheckFinding> {
    let failed = || CheckFinding::failed(CheckName::Models, &place.name, "models");
    if let ModelDestination::Claim(claim) = &place.target.to {
        return match claim::verify_claim(cluster.clone(), place.image.clone(), claim).await {
            Ok(report) => judge_model_target(place, &report),
            Err(error) => vec![failed().with_error(&error, error.next_step(), CHECK)],
        };
    }
    match verify_from_here(place).await {
        Ok(report) => judge_model_target(place, &report),
        Err(error) => vec![failed().with_error(&error, error.next_step(), CHECK)],
    }
}

/// Reads whole disks: on a thread of its own, so that the other checks go on. A bucket has an async
/// runtime of its own, which is started and ended on that thread, too.
async fn verify_from_here(place: &CheckedModelTarget) -> models::Result<ModelVerifyReport> {
    let place = place.clone();
    let verify =
        move || OpenModelTarget::open(&place.target.to, &place.access)?.verify(&SilentProgress);
    match tokio::task::spawn_blocking(verify).await {
        Ok(verified) => verified,
        // A task of this kind cannot be cancelled, so it panicked: pass the panic on.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Compares what was found at a target with what should be there.
fn judge_model_target(
    place: &CheckedModelTarget,
    verified: &ModelVerifyReport,
) -> Vec<CheckFinding> {
    let (place, wanted) = (place.name.as_str(), &place.wanted);
    let again = format!("store it again: gantry models push BUNDLE_FILE… --to {place}");
    let mut findings: Vec<CheckFinding> = verified
        .bad
        .iter()
        .map(|bad| {
            CheckFinding::failed(CheckName::Models, place, "a model's file")
                .with_reason(describe_damage(bad), &again)
                .with_wrong_digest()
        })
        .collect();
    // By substring, as a target may list a model with its revision.
    let is_there =
        |name: &&String| !verified.models.iter().any(|(has, _)| has.contains(name.as_str()));
    findings.extend(wanted.iter().filter(is_there).map(|name| {
        CheckFinding::failed(CheckName::Models, place, format!("model {name}"))
            .with_reason("it was never stored there", &again)
    }));
    if findings.is_empty() {
        let why = format!(
            "{}, {} read, every digest matches",
            match verified.models.len() {
                1 => "1 model".to_owned(),
                count => format!("{count} models"),
            },
            ByteSize(verified.bytes)
        );
        findings.push(CheckFinding::ok(CheckName::Models, place, "models", why));
    }
    findings
}

fn describe_damage(bad: &DamagedFile) -> String {
    format!("{} of {}: {}", bad.path.display(), bad.model, bad.fault)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use types::lock::Lock;
    use types::site::Site;

    use super::super::FindingState;
    use super::*;

    #[test]
    fn models_that_are_missing_or_damaged_at_a_target_fail_its_check() {
        let site = "version: 1\nregistry: {url: 'site:5000'}\nmodels:\n- {to: ./models}\n";
        let site = Site::parse("site.yaml", site).unwrap();
        let none: Option<&Lock> = None;
        let all = CheckedModelTarget::list_of_site(
            &site,
            Path::new("/etc"),
            none,
            &types::config::UserConfig::default(),
        )
        .unwrap();
        let place = CheckedModelTarget { wanted: vec!["org/name".into()], ..all[0].clone() };
        let report = |models: &[&str], bad: Vec<DamagedFile>| ModelVerifyReport {
            models: models.iter().map(|name| ((*name).to_owned(), 1)).collect(),
            bytes: 1,
            bad,
        };
        let bad = DamagedFile { model: "org/name@1".into(), path: "a".into(), fault: "f".into() };

        let good = judge_model_target(&place, &report(&["org/name@1"], vec![]));
        let missing = judge_model_target(&place, &report(&["org/other@1"], vec![]));
        let damaged = judge_model_target(&place, &report(&["org/name@1"], vec![bad]));

        assert_eq!(place.target.to, ModelDestination::Folder("/etc/./models".into()));
        assert_eq!(good[0].state, FindingState::Ok);
        assert!(missing[0].why.contains("never stored"), "{}", missing[0].why);
        assert_eq!(damaged[0].why, "a of org/name@1: f");
        assert!(damaged[0].is_digest_wrong);
    }
}
