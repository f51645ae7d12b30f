//! Whether the API server answers, and with a version that is known.

use cluster::objects::apimachinery::pkg::version::Info;

use super::{Finding, Name, State, Subject};

/// The oldest minor version of Kubernetes 1 that Gantry's requests and pods are made for.
const OLDEST: u32 = 28;
/// The newest one that its tests ran with.
const NEWEST: u32 = 34;

/// The first question: everything else is only asked when it is answered.
pub(super) async fn reachable(subject: &Subject) -> cluster::Result<Info> {
    subject.cluster.version().await
}

/// What the answer says.
pub(super) fn findings(subject: &Subject, answer: &cluster::Result<Info>) -> Vec<Finding> {
    let place = subject.cluster.server().to_owned();
    let what = "the API server";
    let info = match answer {
        Ok(info) => info,
        Err(error) => {
            return vec![Finding::refused(Name::Api, place, what, error, State::Failed)];
        }
    };
    let version = &info.git_version;
    let minor = minor(&info.minor);
    let mut findings = vec![match minor {
        Some(minor) if minor < OLDEST => Finding::failed(Name::Api, place, what).because(
            format!("Kubernetes {version} is older than 1.{OLDEST}"),
            "update the cluster",
        ),
        Some(minor) if minor > NEWEST => Finding::warning(Name::Api, place, what).because(
            format!(
                "Kubernetes {version} is newer than 1.{NEWEST}, with which this Gantry was tried"
            ),
            "it will most likely do; a newer Gantry knows more of it",
        ),
        _ => Finding::ok(Name::Api, place, what, format!("Kubernetes {version} answers")),
    }];
    for release in &subject.releases {
        let rendered = release.kube_version.as_deref();
        let rendered_minor = rendered.and_then(|version| self::minor(version.split('.').nth(1)?));
        if let (Some(minor), Some(rendered_minor), Some(rendered)) =
            (minor, rendered_minor, rendered)
            && minor != rendered_minor
        {
            let why = format!(
                "it was locked for Kubernetes {rendered} (kubeVersion), and this is {version}: its images may differ"
            );
            findings.push(
                Finding::warning(
                    Name::Api,
                    &release.namespace,
                    format!("release {}", release.name),
                )
                .because(why, "set kubeVersion in gantry.yaml, then: gantry lock"),
            );
        }
    }
    findings
}

/// `34`, or `34+` as some clouds have it.
fn minor(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
