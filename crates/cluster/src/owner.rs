//! The labels on everything that Gantry creates. Nothing without them is ever deleted or replaced.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Gantry's name as a field manager, and its value of the label `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "gantry";
/// The label that says which part of Gantry created an object.
pub const PART: &str = "gantry.dev/part";

/// The label that Kubernetes recommends for the tool that manages an object.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Labels an object as created by a part of Gantry (`seeder`, `audit`, …).
pub fn mark_as_own(metadata: &mut ObjectMeta, part: &str) {
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(PART.to_owned(), part.to_owned());
}

/// Whether Gantry created an object.
pub fn is_own(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}
