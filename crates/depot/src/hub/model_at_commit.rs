//! A model of the depot at one of its commits: what the routes of the Hub answer about.

use types::CommitId;
use types::snapshot::Snapshot;

use crate::served_models::ServedModel;

/// A model at a commit.
pub(super) struct ModelAtCommit<'a> {
    pub(super) model: &'a ServedModel,
    pub(super) commit: &'a CommitId,
    pub(super) snapshot: &'a Snapshot,
}
