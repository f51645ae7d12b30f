//! Check `api`: the API server answers, and Gantry supports its version.

use cluster::objects::apimachinery::pkg::version::Info;

use super::{CheckFinding, CheckName, CheckSubject, FindingState};

/// The oldest supported minor version of Kubernetes 1.
const OLDEST: u32 = 28;
/// The newest minor version that Gantry was tested with.
const NEWEST: u32 = 34;

/// Reads the version of the API server. The other checks only run if this succeeds.
pub(super) async fn read_server_version(subject: &CheckSubject) -> cluster::Result<Info> {
    subject.cluster.fetch_version().await
}

/// Judges the version, and compares it with those that the releases were locked for.
pub(super) fn judge_server_version(
    subject: &CheckSubject,
    answer: &cluster::Result<Info>,
) -> Vec<CheckFinding> {
    let place = subject.cluster.server().to_owned();
    let what = "the API server";
    let info = match answer {
        Ok(info) => info,
        Err(error) => {
            return vec![CheckFinding::from_cluster_error(
                CheckName::Api,
                place,
                what,
                error,
                FindingState::Failed,
            )];
        }
    };
    let version = &info.git_version;
    let minor = parse_minor_version(&info.minor);
    let mut findings = vec![match minor {
        Some(minor) if minor < OLDEST => CheckFinding::failed(CheckName::Api, place, what).with_reason(
            format!("Kubernetes {version} is older than 1.{OLDEST}"),
            "upgrade the cluster",
        ),
        // Only a warning: Kubernetes keeps stable APIs, and clusters are upgraded before Gantry is.
        Some(minor) if minor > NEWEST => CheckFinding::warning(CheckName::Api, place, what).with_reason(
            format!(
                "Kubernetes {version} is newer than 1.{NEWEST}, the newest version that this Gantry was tested with"
            ),
            "it will most likely work; see whether there is a newer Gantry",
        ),
        _ => CheckFinding::ok(CheckName::Api, place, what, format!("Kubernetes {version} answers")),
    }];
    for release in &subject.releases {
        // Charts switch images by `.Capabilities.KubeVersion`, so the lock is for one minor
        // version.
        let rendered = release.kube_version.as_deref();
        let rendered_minor =
            rendered.and_then(|version| self::parse_minor_version(version.split('.').nth(1)?));
        if let (Some(minor), Some(rendered_minor), Some(rendered)) =
            (minor, rendered_minor, rendered)
            && minor != rendered_minor
        {
            let why = format!(
                "it was locked for Kubernetes {rendered} (kubeVersion), but the cluster has {version}: the chart may choose other images"
            );
            findings.push(
                CheckFinding::warning(
                    CheckName::Api,
                    &release.namespace,
                    format!("release {}", release.name),
                )
                .with_reason(why, "set kubeVersion in gantry.yaml to the version of the cluster, then run: gantry lock"),
            );
        }
    }
    findings
}

/// Parses a minor version: `34`, or `34+` as some cloud providers write it.
fn parse_minor_version(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
