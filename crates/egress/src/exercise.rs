//! Uses the deployed programs while an audit listens: a first inference of each model server, and the
//! user's own commands. Some programs connect to the outside only when they are used.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::Cluster;
use deploy::check::{
    CheckName, CheckSubject, CheckedRelease, FindingState, ReleaseExpectation, run_checks,
};
use deploy::inference::recognise::InferenceRules;
use serde_json::Value;
use types::input::Input;
use types::lock::Lock;

use crate::evidence::{ExerciseOutcome, ExerciseResult};

/// Where an object names its release: helm's own annotation, then the label that charts set by
/// convention.
const RELEASE: [&str; 2] = [
    "/metadata/annotations/meta.helm.sh~1release-name",
    "/metadata/labels/app.kubernetes.io~1instance",
];

/// What to use during an audit.
pub struct AuditExercise<'a> {
    /// Shell commands of the user.
    pub commands: &'a [String],
    /// gantry.yaml, for the checks that it declares and its rules for model servers.
    pub input: Option<Input>,
    /// The lock, for the models that the servers should have.
    pub lock: Option<Lock>,
    /// The releases in the audited namespaces, as pairs of namespace and name.
    pub releases: BTreeSet<(String, String)>,
    /// The time limit for everything together: the length of the soak.
    pub time_limit: Duration,
}

/// The releases that the objects belong to, as pairs of namespace and name.
pub fn find_releases(objects: &[Value]) -> BTreeSet<(String, String)> {
    let text = |object: &Value, pointer: &str| {
        object.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    };
    let release = |object: &Value| {
        let name = RELEASE.iter().find_map(|pointer| text(object, pointer))?;
        Some((text(object, "/metadata/namespace")?, name))
    };
    objects.iter().filter_map(release).collect()
}

impl AuditExercise<'_> {
    /// Runs the inferences and the commands, one after the other.
    pub async fn run(self, cluster: &Cluster) -> Vec<ExerciseResult> {
        let most = self.time_limit;
        let mut done = Vec::new();
        let whole = async {
            self.run_inferences(cluster, &mut done).await;
            for command in self.commands {
                done.push(run_shell_command(command).await);
            }
        };
        // What was done before the limit is kept in `done`, which the future only borrows.
        if tokio::time::timeout(most, whole).await.is_err() {
            done.push(ExerciseResult {
                what: "everything else".to_owned(),
                outcome: ExerciseOutcome::Failed,
                detail: format!("not run: the time limit of {most:?} was reached"),
            });
        }
        done
    }

    async fn run_inferences(&self, cluster: &Cluster, done: &mut Vec<ExerciseResult>) {
        let releases = self.releases.iter().map(|(namespace, name)| CheckedRelease {
            name: name.clone(),
            namespace: namespace.clone(),
            kube_version: None,
            manifests: Err("an audit does not render charts".to_owned()),
        });
        let input = self.input.as_ref();
        let own = input.map(|input| input.inference.clone()).unwrap_or_default();
        let subject = CheckSubject {
            cluster: cluster.clone(),
            registry: None,
            storage_class: None,
            lock: self.lock.clone(),
            releases: releases.collect(),
            deployed: ReleaseExpectation::Optional,
            checks: input.map(|input| input.checks.clone()).unwrap_or_default(),
            servers: InferenceRules::builtin().with_own_rules(&own),
            models: vec![],
            ca: vec![],
        };
        let report = run_checks(&subject, &[CheckName::Inference]).await;
        // A skipped check has sent no request, so it is not part of the evidence.
        let asked =
            report.findings.into_iter().filter(|finding| finding.state != FindingState::Skipped);
        done.extend(asked.map(|finding| ExerciseResult {
            what: format!("first inference: {} in {}", finding.what, finding.place),
            outcome: match finding.state {
                FindingState::Ok | FindingState::Warning | FindingState::Skipped => {
                    ExerciseOutcome::Done
                }
                FindingState::Failed => ExerciseOutcome::Failed,
            },
            detail: finding.why,
        }));
    }
}

async fn run_shell_command(command: &str) -> ExerciseResult {
    // `kill_on_drop`: a command that runs over the time limit ends with the audit.
    let mut shell = tokio::process::Command::new("sh");
    let (outcome, detail) = match shell.args(["-c", command]).kill_on_drop(true).output().await {
        Ok(output) if output.status.success() => (ExerciseOutcome::Done, "exit code 0".to_owned()),
        Ok(output) => (ExerciseOutcome::Failed, output.status.to_string()),
        Err(cause) => (ExerciseOutcome::Failed, cause.to_string()),
    };
    ExerciseResult { what: command.to_owned(), outcome, detail }
}
