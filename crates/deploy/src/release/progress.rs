//! The progress of a release while it is installed: which objects are not ready yet, and why.

use std::fmt;

use serde::Serialize;

/// An object that is not ready, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingObject {
    /// Kind, namespace and name: `Deployment shop/web`.
    pub object: String,
    /// Why it is not ready, in one line.
    pub why: String,
    /// What the user can do.
    pub next: String,
    /// The last log lines of a container that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    /// Whether waiting cannot help.
    #[serde(skip)]
    pub is_final: bool,
}

impl fmt::Display for PendingObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.why, self.next)
    }
}

/// The progress of a release at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseProgress {
    /// The release.
    pub release: String,
    /// What Gantry is doing, such as `waiting`.
    pub doing: String,
    /// The number of objects that are ready.
    pub ready: usize,
    /// The number of objects that have to become ready.
    pub of: usize,
    /// The objects that are not ready.
    pub pending: Vec<PendingObject>,
}

/// Receives the progress of a deploy, to show it to the user.
pub trait ProgressWatcher: Send + Sync {
    /// Shows the current progress. Called again and again; each call replaces the one before.
    fn show(&self, view: &ReleaseProgress);
    /// Reports something that happened once, as a line that stays.
    fn note(&self, message: &str);
}
