//! What Gantry made bears its mark; nothing else is ever deleted or replaced.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The name that Gantry's fields are owned under, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "gantry";
/// The label that says what part of Gantry made an object.
pub const PART: &str = "gantry.dev/part";

/// The label of the same name that Kubernetes recommends.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Marks an object as made by a part of Gantry (`seeder`, `audit`, …).
pub fn own(metadata: &mut ObjectMeta, part: &str) {
    let labels = metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(PART.to_owned(), part.to_owned());
}

/// Whether Gantry made an object.
pub fn is_own(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}
