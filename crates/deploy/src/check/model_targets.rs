//! Check `models`: the files of every model are complete at the targets of `site.yaml`. How a
//! target (a folder, a bucket, a claim) is read is passed in as functions, since that is the
//! business of the crate `land`, which is in the same layer and cannot be a dependency.

use std::sync::Arc;

use types::ByteSize;

use super::{
    CheckFinding, CheckName, CheckSubject, CheckedModelTarget, ModelVerification, TargetVerifier,
};

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
        let verified = match &place.verifier {
            _ if place.wanted.is_empty() => {
                let why = "no locked model belongs there";
                findings.push(CheckFinding::skipped(CheckName::Models, &place.name, "models", why));
                continue;
            }
            TargetVerifier::Unavailable(why) => {
                findings.push(CheckFinding::skipped(CheckName::Models, &place.name, "models", why));
                continue;
            }
            TargetVerifier::InCluster(look) => look(subject.cluster.clone()).await,
            // Reads whole disks: on a thread of its own, so that the other checks go on.
            TargetVerifier::Local(verify) => {
                let verify = Arc::clone(verify);
                match tokio::task::spawn_blocking(move || verify()).await {
                    Ok(verified) => verified,
                    // A task of this kind cannot be cancelled, so it panicked: pass the panic on.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
        };
        match verified {
            Ok(verified) => findings.extend(judge_model_target(place, &verified)),
            Err(why) => {
                let (why, next) =
                    why.rsplit_once("; ").unwrap_or((&why, "check that the target exists"));
                findings.push(
                    CheckFinding::failed(CheckName::Models, &place.name, "models")
                        .with_reason(why, next),
                );
            }
        }
    }
    findings
}

/// Compares what was found at a target with what should be there.
fn judge_model_target(
    place: &CheckedModelTarget,
    verified: &ModelVerification,
) -> Vec<CheckFinding> {
    let (place, wanted) = (place.name.as_str(), &place.wanted);
    let again = format!("store it again: gantry models push BUNDLE_FILE… --to {place}");
    let mut findings: Vec<CheckFinding> = verified
        .bad
        .iter()
        .map(|bad| {
            CheckFinding::failed(CheckName::Models, place, "a model's file")
                .with_reason(bad, &again)
                .with_wrong_digest()
        })
        .collect();
    // By substring, as a target may list a model with its revision.
    let is_there = |name: &&String| !verified.models.iter().any(|has| has.contains(name.as_str()));
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
