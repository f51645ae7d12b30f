//! Whether every model's files are where they should be. How a place is read (a folder, a bucket, a
//! claim) is handed in: the crate `land` knows it, which stands beside this one.

use std::sync::Arc;

use types::ByteSize;
use types::lock::Model;

use super::{Finding, Name, Subject};

/// A place where models should be.
#[derive(Clone)]
pub struct ModelPlace {
    /// As it stands in site.yaml: `/srv/models`, `s3://…`, `pvc://…`.
    pub name: String,
    /// How it is looked at.
    pub look: Look,
}

/// How a place is looked at.
#[derive(Clone)]
pub enum Look {
    /// Reads every file of it. Blocks.
    Verify(Arc<dyn Fn() -> Result<Verified, String> + Send + Sync>),
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
    let wanted: Vec<String> = subject.lock.iter().flat_map(|lock| &lock.models).map(name).collect();
    if wanted.is_empty() {
        let why = "there is no model in the lock";
        return vec![Finding::skipped(Name::Models, "site", "models", why)];
    }
    if subject.models.is_empty() {
        let why = "site.yaml has no models: the registry holds them";
        return vec![Finding::skipped(Name::Models, "site", "models", why)];
    }
    let mut findings = Vec::new();
    for place in &subject.models {
        let verify = match &place.look {
            Look::Verify(verify) => Arc::clone(verify),
            Look::Not(why) => {
                findings.push(Finding::skipped(Name::Models, &place.name, "models", why));
                continue;
            }
        };
        let verified = tokio::task::spawn_blocking(move || verify()).await;
        match verified {
            Ok(Ok(verified)) => findings.extend(judge(&place.name, &verified, &wanted)),
            Ok(Err(why)) => {
                let (why, next) = why.rsplit_once("; ").unwrap_or((&why, "is the place there?"));
                findings
                    .push(Finding::failed(Name::Models, &place.name, "models").because(why, next));
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    findings
}

fn judge(place: &str, verified: &Verified, wanted: &[String]) -> Vec<Finding> {
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

/// As people call a model.
fn name(model: &Model) -> String {
    match model {
        Model::Hub(model) => model.hf.to_string(),
        Model::Ollama(model) => model.ollama.clone(),
        Model::Url(model) => model.title.clone(),
    }
}
