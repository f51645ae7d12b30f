//! The API groups that Kubernetes has itself; documents of all others are custom resources.

/// The API groups of Kubernetes itself. Their fields are known and hold images only in pods, which
/// `pods` searches.
const BUILT_IN: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Whether documents of this API group are custom resources.
pub(crate) fn is_custom_group(group: &str) -> bool {
    !BUILT_IN.contains(&group)
}
