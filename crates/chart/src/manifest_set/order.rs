//! The order in which the objects of a set are applied: what others need comes first.

/// Kinds that come before all others, in this order, as kustomize sorts them (its legacy order,
/// `api/internal/builtins/LegacyOrderTransformer.go`).
const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];

/// Kinds that come after all others: a webhook would refuse objects before its own pods run.
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// The rank of a kind; lower ranks are applied first. Objects of one rank keep their order.
pub(super) fn rank_kind(kind: &str) -> usize {
    let at = |kinds: &[&str]| kinds.iter().position(|own| *own == kind);
    match (at(FIRST), at(LAST)) {
        (Some(at), _) => at,
        (None, Some(at)) => FIRST.len() + 1 + at,
        (None, None) => FIRST.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_come_before_their_objects_and_webhooks_after_all() {
        let mut kinds =
            ["ValidatingWebhookConfiguration", "Tenant", "Deployment", "Job", "Namespace"];
        kinds.sort_by_key(|kind| rank_kind(kind));
        assert_eq!(
            kinds,
            ["Namespace", "Deployment", "Tenant", "Job", "ValidatingWebhookConfiguration"]
        );
        assert!(rank_kind("CustomResourceDefinition") < rank_kind("Tenant"));
    }
}
