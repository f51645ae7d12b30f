//! The OCI endpoint: the pull part of the OCI Distribution Spec 1.1. A repository's name may have
//! any number of segments, so a path is split at its last `/manifests/`, `/blobs/`, `/tags/list` or
//! `/referrers/`.

mod lists;
mod routes;

pub(crate) use routes::{handle_request, handle_version_check};
