//! What a deploy does to a release: the action, and the objects that change by it.

use serde::Serialize;

use super::compare::ObjectDifference;
use super::drift::{DriftedObject, FieldDrift};
use super::objects::RenderedObject;

/// What a deploy does to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseAction {
    /// It is installed for the first time.
    Install,
    /// It is upgraded to a new revision.
    Upgrade,
    /// What others changed in its objects is put back; the revision stays.
    Restore,
    /// Nothing, it is up to date.
    None,
    /// An interrupted run left it half done: it is repaired first, and then installed or upgraded.
    #[serde(rename = "repair")]
    Mend,
}

/// What a deploy is about to do to a release.
pub(super) struct UpcomingChange {
    pub(super) action: ReleaseAction,
    pub(super) changes: Vec<ObjectDifference>,
    /// All objects of the new revision, hooks included.
    pub(super) objects: Vec<RenderedObject>,
    /// What others changed in the objects of the deployed revision.
    pub(super) drifted: Vec<DriftedObject>,
}

impl UpcomingChange {
    /// The change of a release that nobody else changed.
    pub(super) fn new(
        action: ReleaseAction,
        changes: Vec<ObjectDifference>,
        objects: Vec<RenderedObject>,
    ) -> Self {
        Self { action, changes, objects, drifted: vec![] }
    }

    /// Who changed what since the release applied it.
    pub(super) fn list_drift(&self) -> Vec<FieldDrift> {
        self.drifted.iter().flat_map(|one| one.drift.iter().cloned()).collect()
    }
}
