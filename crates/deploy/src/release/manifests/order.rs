//! Which objects of a release others can only exist after. The order of all others is that of the
//! manifests, which were sorted when they were locked (`chart::manifest_set`).

use cluster::ObjectId;

/// Whether other objects of the release can only exist after this one.
pub(super) fn is_definition(id: &ObjectId) -> bool {
    matches!(id.kind.as_str(), "Namespace" | "CustomResourceDefinition")
}
