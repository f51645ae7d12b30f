//! Check `models`: the files of every model are complete at the targets of `site.yaml`. How a
//! target (a folder, a bucket, a claim) is read is passed in as functions, since that is the
//! business of the crate `land`, which is in the same layer and cannot be a dependency.

use std::sync::Arc;

use cluster::Cluster;
use futures::future::LocalBoxFuture;
use types::ByteSize;

use super::{Finding, Name, Subject};

/// A target where models should be.
#[derive(Clone)]
pub struct ModelPlace {
    /// Its address as in `site.yaml`: `/srv/models`, `s3://…`, `pvc://…`.
    pub name: String,
    /// The locked models that should be there, by their usual names (`org/name`).
    pub wanted: Vec<String>,
    /// How its content is verified.
    pub look: Look,
}

/// Verifies a target from inside the cluster, where it is mounted or reachable.
pub type Inside =
    dyn Fn(Cluster) -> LocalBoxFuture<'static, Result<Verified, String>> + Send + Sync;

/// How the content of a target is verified.
#[derive(Clone)]
pub enum Look {
    /// By reading every file from this machine. Blocks.
    Verify(Arc<dyn Fn() -> Result<Verified, String> + Send + Sync>),
    /// By reading every file in a pod.
    Inside(Arc<Inside>),
    /// Not at all, with the reason.
    Not(String),
}

/// What was found at a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The names of the models that were stored there.
    pub models: Vec<String>,
    /// The number of bytes that were read.
    pub bytes: u64,
    /// The files that differ from what was stored, each with the difference.
    pub bad: Vec<String>,
}

/// Verifies the models at all targets.
pub(super) async fn check(subject: &Subject) -> Vec<Finding> {
    if subject.lock.iter().all(|lock| lock.models.is_empty()) {
        let why = "gantry.lock has no models";
        return vec![Finding::skipped(Name::Models, "site", "models", why)];
    }
    if subject.models.is_empty() {
        let why = "site.yaml has no model targets: the models are in the registry";
        return vec![Finding::skipped(Name::Models, "site", "models", why)];
    }
    let mut findings = Vec::new();
    for place in &subject.models {
        let verified = match &place.look {
            _ if place.wanted.is_empty() => {
                let why = "no locked model belongs there";
                findings.push(Finding::skipped(Name::Models, &place.name, "models", why));
                continue;
            }
            Look::Not(why) => {
                findings.push(Finding::skipped(Name::Models, &place.name, "models", why));
                continue;
            }
            Look::Inside(look) => look(subject.cluster.clone()).await,
            // Reads whole disks: on a thread of its own, so that the other checks go on.
            Look::Verify(verify) => {
                let verify = Arc::clone(verify);
                match tokio::task::spawn_blocking(move || verify()).await {
                    Ok(verified) => verified,
                    // A task of this kind cannot be cancelled, so it panicked: pass the panic on.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
        };
        match verified {
            Ok(verified) => findings.extend(judge(place, &verified)),
            Err(why) => {
                let (why, next) =
                    why.rsplit_once("; ").unwrap_or((&why, "check that the target exists"));
                findings
                    .push(Finding::failed(Name::Models, &place.name, "models").because(why, next));
            }
        }
    }
    findings
}

/// Compares what was found at a target with what should be there.
fn judge(place: &ModelPlace, verified: &Verified) -> Vec<Finding> {
    let (place, wanted) = (place.name.as_str(), &place.wanted);
    let again = format!("store it again: gantry models push BUNDLE_FILE… --to {place}");
    let mut findings: Vec<Finding> = verified
        .bad
        .iter()
        .map(|bad| {
            Finding::failed(Name::Models, place, "a model's file")
                .because(bad, &again)
                .with_wrong_digest()
        })
        .collect();
    // By substring, as a target may list a model with its revision.
    let is_there = |name: &&String| !verified.models.iter().any(|has| has.contains(name.as_str()));
    findings.extend(wanted.iter().filter(is_there).map(|name| {
        Finding::failed(Name::Models, place, format!("model {name}"))
            .because("it was never stored there", &again)
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
        findings.push(Finding::ok(Name::Models, place, "models", why));
    }
    findings
}
