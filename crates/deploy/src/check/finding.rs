//! What a check found: what was looked at, where, how it is, why, and what to do next.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The checks, in the order of the checklists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The API server answers, and its version is one that is known.
    Api,
    /// The rights that a deploy needs.
    Rights,
    /// The nodes are ready, and of architectures that are carried.
    Nodes,
    /// Storage classes and access modes, for the claims of the charts.
    Storage,
    /// What the charts ask for fits into the quotas.
    Quota,
    /// The registry answers, from here.
    Registry,
    /// The pull secret is there, and the registry takes it.
    PullSecret,
    /// Every locked image is in the registry, with its digest.
    Images,
    /// Every node can pull from the registry.
    NodePull,
    /// Names of the cluster resolve in a pod.
    Dns,
    /// Every model's files are where they should be.
    Models,
    /// Deployments, stateful sets, daemon sets and jobs.
    Workloads,
    /// Claims have their volumes.
    Claims,
    /// Pods are ready, or it is said why not.
    Pods,
    /// What runs are the locked digests, from the site.
    Running,
    /// First inference, and the checks of gantry.yaml.
    Inference,
}

/// Before a deploy, or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The cluster and the site.
    Before,
    /// What was deployed.
    After,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not looked at; the finding says why.
    Skipped,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Failed,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check.
    pub check: Name,
    /// What was looked at.
    pub what: String,
    /// Where: a namespace, a node, a registry.
    #[serde(rename = "where")]
    pub place: String,
    /// How it is.
    pub state: State,
    /// Why, or what was seen.
    pub why: String,
    /// What to do; empty where there is nothing to do.
    pub next: String,
    /// Whether content is not what was locked.
    pub is_digest_wrong: bool,
    /// How long an answer took, where that is of interest.
    #[serde(
        rename = "milliseconds",
        skip_serializing_if = "Option::is_none",
        serialize_with = "millis"
    )]
    pub took: Option<Duration>,
}

impl Name {
    /// All of them, in the order of the report.
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

    /// As it is written with `--only` and `--skip`.
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

    /// When it is asked.
    pub fn phase(self) -> Phase {
        if self >= Self::Workloads { Phase::After } else { Phase::Before }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("there is no such check; there are {}", known.join(", "))
        })
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl State {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl Finding {
    fn new(check: Name, place: impl Into<String>, what: impl Into<String>, state: State) -> Self {
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

    /// It is as it should be; `why` says what was seen.
    pub fn ok(
        check: Name,
        place: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { why: why.into(), ..Self::new(check, place, what, State::Ok) }
    }

    /// It was not looked at.
    pub fn skipped(
        check: Name,
        place: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { why: why.into(), ..Self::new(check, place, what, State::Skipped) }
    }

    /// It does not work.
    pub fn failed(check: Name, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(check, place, what, State::Failed)
    }

    /// It works, and should be looked at.
    pub fn warning(check: Name, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(check, place, what, State::Warning)
    }

    /// Says why, and what to do next.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>, next: impl Into<String>) -> Self {
        self.why = why.into();
        self.next = next.into();
        self
    }

    /// Says that content is not what was locked.
    #[must_use]
    pub fn with_wrong_digest(mut self) -> Self {
        self.is_digest_wrong = true;
        self
    }

    /// Says how long it took.
    #[must_use]
    pub fn taking(mut self, took: Duration) -> Self {
        self.took = Some(took);
        self
    }

    /// What the cluster refused. Its errors end with their next step. Where it is only a right to look
    /// that is missing, `forbidden` says how bad that is.
    pub fn refused(
        check: Name,
        place: impl Into<String>,
        what: impl Into<String>,
        error: &cluster::Error,
        forbidden: State,
    ) -> Self {
        let text = error.to_string();
        let (why, next) = text.rsplit_once("; ").unwrap_or((&text, ""));
        let is_forbidden = matches!(error, cluster::Error::Forbidden { .. });
        let state = if is_forbidden { forbidden } else { State::Failed };
        Self::new(check, place, what, state).because(why, next)
    }

    /// What makes it the same finding in another run.
    pub fn key(&self) -> (Name, &str, &str) {
        (self.check, &self.place, &self.what)
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn millis<S: Serializer>(took: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    serde::Serialize::serialize(&millis, serializer)
}
