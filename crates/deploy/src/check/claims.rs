//! Check `claims`: the PersistentVolumeClaims of the releases are bound to volumes.

use std::collections::BTreeSet;

use cluster::ObjectScope;
use cluster::objects::api::core::v1::PersistentVolumeClaim;
use cluster::pod_spec::list_claims;

use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState, pods};

/// Checks the claims of all releases.
pub(super) async fn check_claims(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for release in &subject.releases {
        match check_release_claims(subject, release).await {
            Ok(own) => findings.extend(own),
            Err(error) => {
                let what = format!("claims of {}", release.name);
                let place = &release.namespace;
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Claims,
                    place,
                    what,
                    &error,
                    FindingState::Failed,
                ));
            }
        }
    }
    if findings.is_empty() {
        let why = "the releases have no PersistentVolumeClaims";
        findings.push(CheckFinding::skipped(CheckName::Claims, "cluster", "claims", why));
    }
    findings
}

/// Checks the claims that belong to a release or that its pods mount.
async fn check_release_claims(
    subject: &CheckSubject,
    release: &CheckedRelease,
) -> cluster::Result<Vec<CheckFinding>> {
    let scope = ObjectScope::Namespace(&release.namespace);
    let claims = subject.cluster.list_objects::<PersistentVolumeClaim>(scope, "").await?;
    let pods = pods::list_release_pods(subject, release).await?;
    // Claims may come from elsewhere (`existingClaim` values), so those that pods mount count as
    // well.
    let mounted: BTreeSet<&str> = pods.iter().flat_map(list_claims).collect();
    let mut findings = Vec::new();
    for claim in &claims {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        if release.is_owner_of(&claim.metadata) || mounted.contains(name) {
            findings.push(check_claim(subject, release, claim, name).await);
        }
    }
    let has = |name: &str| claims.iter().any(|claim| claim.metadata.name.as_deref() == Some(name));
    findings.extend(mounted.iter().filter(|name| !has(name)).map(|name| {
        let next = format!(
            "create and fill it: gantry models push BUNDLE_FILE… --to pvc://{}/{name}",
            release.namespace
        );
        CheckFinding::failed(CheckName::Claims, &release.namespace, format!("claim {name}"))
            .with_reason("a pod mounts it, but it does not exist", next)
    }));
    Ok(findings)
}

/// Checks one claim.
async fn check_claim(
    subject: &CheckSubject,
    release: &CheckedRelease,
    claim: &PersistentVolumeClaim,
    name: &str,
) -> CheckFinding {
    let place = &release.namespace;
    let what = format!("claim {name}");
    let spec = claim.spec.clone().unwrap_or_default();
    let class = spec.storage_class_name.unwrap_or_else(|| "no class".to_owned());
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Bound") => {
            let modes = spec.access_modes.unwrap_or_default().join(", ");
            CheckFinding::ok(CheckName::Claims, place, what, format!("bound, {class}, {modes}"))
        }
        Some("Lost") => CheckFinding::failed(CheckName::Claims, place, what).with_reason(
            "its volume no longer exists",
            "restore the volume, or delete the claim and fill a new one with: gantry models push",
        ),
        _ => {
            let unbound = subject.cluster.explain_claim(place, name).await;
            let (why, next) = match unbound {
                Some(unbound) => (
                    format!("it is not bound to a volume (class {class}): {}", unbound.why),
                    unbound.next,
                ),
                None => (
                    format!("it is not bound to a volume yet (class {class})"),
                    "check that the class exists and provides volumes with its access modes: gantry check --only storage".to_owned(),
                ),
            };
            CheckFinding::failed(CheckName::Claims, place, what).with_reason(why, next)
        }
    }
}
