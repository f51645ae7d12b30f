//! Whether every model's files are where they should be. How a place is read (a folder, a bucket, a
//! claim) is handed in: the crate `land` knows it, which stands beside this one.

use std::sync::Arc;

use cluster::Cluster;
use futures::future::LocalBoxFuture;
use types::ByteSize;

use super::{Finding, Name, Subject};

/// A place where models should be.
#[derive(Clone)]
pub struct ModelPlace {
    /// As it stands in site.yaml: `/srv/models`, `s3://…`, `pvc://…`.
    pub name: String,
    /// The models of the lock that should be there, as people call them.
    pub wanted: Vec<String>,
    /// How it is looked at.
    pub look: Look,
}

/// Looks at a place from inside of the cluster.
pub type Inside =
    dyn Fn(Cluster) -> LocalBoxFuture<'static, Result<Verified, String>> + Send + Sync;

/// How a place is looked at.
#[derive(Clone)]
pub enum Look {
    /// Reads every file of it. Blocks.
    Verify(Arc<dyn Fn() -> Result<Verified, String> + Send + Sync>),
    /// Reads every file of it where the cluster has it.
    Inside(Arc<Inside>),
    /// It is not looked at, and why.
    Not(String),
}

/// What was found in a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The models that were put there.
    pub models: Vec<String>,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is not as it was put: the file, and its fault.
    pub bad: Vec<String>,
}

pub(super) async fn check(subject: &Subject) -> Vec<Finding> {
    if subject.lock.iter().all(|lock| lock.models.is_empty()) {
        let why = "there is no model in the lock";
        return vec![Finding::skipped(Name::Models, "site", "models", why)];
    }
    if subject.models.is_empty() {
        let why = "site.yaml has no models: the registry holds them";
        return vec![Finding::skipped(Name::Models, "site", "models", why)];
    }
    let mut findings = Vec::new();
    for place in &subject.models {
        let verified = match &place.look {
            _ if place.wanted.is_empty() => {
                let why = "no model of the lock goes there";
                findings.push(Finding::skipped(Name::Models, &place.name, "models", why));
                continue;
            }
            Look::Not(why) => {
                findings.push(Finding::skipped(Name::Models, &place.name, "models", why));
                continue;
            }
            Look::Inside(look) => look(subject.cluster.clone()).await,
            Look::Verify(verify) => {
                let verify = Arc::clone(verify);
                match tokio::task::spawn_blocking(move || verify()).await {
                    Ok(verified) => verified,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
        };
        match verified {
            Ok(verified) => findings.extend(judge(place, &verified)),
            Err(why) => {
                let (why, next) = why.rsplit_once("; ").unwrap_or((&why, "is the place there?"));
                findings
                    .push(Finding::failed(Name::Models, &place.name, "models").because(why, next));
            }
        }
    }
    findings
}

fn judge(place: &ModelPlace, verified: &Verified) -> Vec<Finding> {
    let (place, wanted) = (place.name.as_str(), &place.wanted);
    let again = format!("put it there again: gantry models push VOLUME… --to {place}");
    let mut findings: Vec<Finding> = verified
        .bad
        .iter()
        .map(|bad| {
            Finding::failed(Name::Models, place, "a model's file")
                .because(bad, &again)
                .with_wrong_digest()
        })
        .collect();
    let is_there = |name: &&String| !verified.models.iter().any(|has| has.contains(name.as_str()));
    findings.extend(wanted.iter().filter(is_there).map(|name| {
        Finding::failed(Name::Models, place, format!("model {name}"))
            .because("it was not put there", &again)
    }));
    if findings.is_empty() {
        let why = format!(
            "{} models, {} read, every digest right",
            verified.models.len(),
            ByteSize(verified.bytes)
        );
        findings.push(Finding::ok(Name::Models, place, "models", why));
    }
    findings
}
