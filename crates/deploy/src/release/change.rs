//! What a deploy does to a release: the action, and the objects that change by it.

use serde::Serialize;

use super::compare::ObjectDifference;
use super::objects::RenderedObject;

/// What a deploy does to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseAction {
    /// It is installed for the first time.
    Install,
    /// It is upgraded to a new revision.
    Upgrade,
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
}
