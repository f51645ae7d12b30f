//! The result of a check: what was checked, where, its state, the reason, and the next step. Every
//! check returns these; `report` collects them and the command line prints them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The checks, in the order in which they are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckName {
    /// The API server answers, and Gantry supports its version.
    Api,
    /// The user has the permissions that a deploy needs.
    Rights,
    /// The nodes are ready, and the locked images have their platforms.
    Nodes,
    /// The storage classes and access modes that the charts' claims need exist.
    Storage,
    /// The resources that the charts request fit into the quotas.
    Quota,
    /// The site's registry answers from this machine.
    Registry,
    /// The pull secret exists, and the registry accepts its login.
    PullSecret,
    /// Every locked image is in the registry, with its digest.
    Images,
    /// Every node can pull from the registry.
    NodePull,
    /// Names of the cluster resolve in its pods.
    Dns,
    /// The files of every model are complete at their targets.
    Models,
    /// Deployments, StatefulSets, DaemonSets and Jobs are ready.
    Workloads,
    /// The claims are bound to volumes.
    Claims,
    /// The pods are ready.
    Pods,
    /// The running containers have the locked digests, from the site.
    Running,
    /// Model servers answer a first request, and so do the checks of `gantry.yaml`.
    Inference,
}

/// Whether a check belongs before a deploy or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckPhase {
    /// It checks the cluster and the site.
    Before,
    /// It checks what was deployed.
    After,
}

/// The state of what was checked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FindingState {
    /// It is as it should be.
    Ok,
    /// It was not checked; the finding says why.
    Skipped,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}

/// The result of checking one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckFinding {
    /// The check that found it.
    pub check: CheckName,
    /// What was checked, such as `Pod web-0`.
    pub what: String,
    /// Where it is: a namespace, a node, a registry.
    #[serde(rename = "where")]
    pub place: String,
    /// Its state.
    pub state: FindingState,
    /// The reason for the state, or what was seen.
    pub why: String,
    /// The next step; empty if there is nothing to do.
    pub next: String,
    /// Whether some content is not what was locked. The command line then exits with code 3.
    #[serde(rename = "digestMismatch")]
    pub is_digest_wrong: bool,
    /// How long it took, if that is of interest (pulls, inferences).
    #[serde(
        rename = "milliseconds",
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_milliseconds"
    )]
    #[schemars(with = "Option<u64>")]
    pub took: Option<Duration>,
}

impl CheckName {
    /// All checks, in the order in which they are reported.
    pub const ALL: [Self; 16] = [
        Self::Api,
        Self::Rights,
        Self::Nodes,
        Self::Storage,
        Self::Quota,
        Self::Registry,
        Self::PullSecret,
        Self::Images,
        Self::NodePull,
        Self::Dns,
        Self::Models,
        Self::Workloads,
        Self::Claims,
        Self::Pods,
        Self::Running,
        Self::Inference,
    ];

    /// The name as `--only` and `--skip` take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Rights => "rights",
            Self::Nodes => "nodes",
            Self::Storage => "storage",
            Self::Quota => "quota",
            Self::Registry => "registry",
            Self::PullSecret => "pull-secret",
            Self::Images => "images",
            Self::NodePull => "node-pull",
            Self::Dns => "dns",
            Self::Models => "models",
            Self::Workloads => "workloads",
            Self::Claims => "claims",
            Self::Pods => "pods",
            Self::Running => "running",
            Self::Inference => "inference",
        }
    }

    /// Whether it belongs before a deploy or after it.
    pub fn phase(self) -> CheckPhase {
        if self >= Self::Workloads { CheckPhase::After } else { CheckPhase::Before }
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CheckName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("there is no check {text:?}; choose from: {}", known.join(", "))
        })
    }
}

impl schemars::JsonSchema for CheckName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CheckName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "enum": Self::ALL.map(Self::as_str) })
    }
}

impl Serialize for CheckName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FindingState {
    /// The state as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl CheckFinding {
    fn new(
        check: CheckName,
        place: impl Into<String>,
        what: impl Into<String>,
        state: FindingState,
    ) -> Self {
        Self {
            check,
            what: what.into(),
            place: place.into(),
            state,
            why: String::new(),
            next: String::new(),
            is_digest_wrong: false,
            took: None,
        }
    }

    /// Something is as it should be; `why` says what was seen.
    pub fn ok(
        check: CheckName,
        place: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { why: why.into(), ..Self::new(check, place, what, FindingState::Ok) }
    }

    /// Something was not checked; `why` says the reason.
    pub fn skipped(
        check: CheckName,
        place: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { why: why.into(), ..Self::new(check, place, what, FindingState::Skipped) }
    }

    /// Something does not work. Add the reason by [`Self::with_reason`].
    pub fn failed(check: CheckName, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(check, place, what, FindingState::Failed)
    }

    /// Something works, but somebody should look at it. Add the reason by [`Self::with_reason`].
    pub fn warning(check: CheckName, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(check, place, what, FindingState::Warning)
    }

    /// Adds the reason and the next step.
    #[must_use]
    pub fn with_reason(mut self, why: impl Into<String>, next: impl Into<String>) -> Self {
        self.why = why.into();
        self.next = next.into();
        self
    }

    /// Marks that content is not what was locked.
    #[must_use]
    pub fn with_wrong_digest(mut self) -> Self {
        self.is_digest_wrong = true;
        self
    }

    /// Adds how long it took.
    #[must_use]
    pub fn with_duration(mut self, took: Duration) -> Self {
        self.took = Some(took);
        self
    }

    /// Something could not be checked because of an error of the cluster. If the user only lacks
    /// the permission to read it, the state is `forbidden`, else it has failed.
    pub fn from_cluster_error(
        check: CheckName,
        place: impl Into<String>,
        what: impl Into<String>,
        error: &cluster::Error,
        forbidden: FindingState,
    ) -> Self {
        let is_forbidden = matches!(error, cluster::Error::Forbidden { .. });
        let state = if is_forbidden { forbidden } else { FindingState::Failed };
        Self::new(check, place, what, state).with_error(error, error.next_step(), "")
    }

    /// Adds an error as the reason. Its message ends with `next_step`, where it has one; `otherwise` is
    /// the next step of those without.
    #[must_use]
    pub(super) fn with_error(
        self,
        error: &dyn fmt::Display,
        next_step: Option<&str>,
        otherwise: &str,
    ) -> Self {
        let text = error.to_string();
        let Some(next) = next_step else { return self.with_reason(text, otherwise) };
        let why = text.strip_suffix(next).and_then(|text| text.strip_suffix("; "));
        self.with_reason(why.unwrap_or(&text), next)
    }

    /// What identifies the same finding in another run: check, location and subject.
    pub fn identity(&self) -> (CheckName, &str, &str) {
        (self.check, &self.place, &self.what)
    }
}

/// Serializes a duration as whole milliseconds.
#[expect(clippy::ref_option, reason = "serde's signature")]
fn serialize_milliseconds<S: Serializer>(
    took: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let millis = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    serde::Serialize::serialize(&millis, serializer)
}
