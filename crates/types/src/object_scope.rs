//! Which kinds of Kubernetes objects belong to no namespace, for those who read manifests without a
//! cluster to ask. With a cluster, its discovery says so.

use serde_json::Value;

/// The kinds without a namespace, by API group: those of Kubernetes up to 1.34 (`kubectl api-resources
/// --namespaced=false`), of the Gateway API and of OpenShift.
#[rustfmt::skip]
const CLUSTER_SCOPED: &[(&str, &[&str])] = &[
    ("", &["ComponentStatus", "Namespace", "Node", "PersistentVolume"]),
    ("admissionregistration.k8s.io", &[
        "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
    ]),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    ("certificates.k8s.io", &["CertificateSigningRequest", "ClusterTrustBundle"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("gateway.networking.k8s.io", &["GatewayClass"]),
    ("networking.k8s.io", &["IPAddress", "IngressClass", "ServiceCIDR"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("policy", &["PodSecurityPolicy"]),
    ("project.openshift.io", &["Project"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding"]),
    ("resource.k8s.io", &["DeviceClass", "ResourceSlice"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("security.openshift.io", &["SecurityContextConstraints"]),
    ("storage.k8s.io", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"]),
];

/// Whether objects of a kind belong to no namespace, as far as it is known without a cluster: `false` for
/// custom resources, except those of [`list_cluster_scoped_kinds`].
pub fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    CLUSTER_SCOPED.iter().any(|(own, kinds)| *own == group && kinds.contains(&kind))
}

/// The kinds without a namespace that CustomResourceDefinitions among these objects define, as pairs of
/// group and kind.
pub fn list_cluster_scoped_kinds<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
) -> Vec<(String, String)> {
    let text = |object: &Value, pointer: &str| {
        object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let definitions = objects.into_iter().filter(|object| {
        text(object, "/kind") == "CustomResourceDefinition"
            && text(object, "/spec/scope") == "Cluster"
    });
    definitions
        .map(|object| (text(object, "/spec/group"), text(object, "/spec/names/kind")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_without_a_namespace_are_known_by_group_and_by_their_definition() {
        assert!(is_cluster_scoped("v1", "Namespace"));
        assert!(is_cluster_scoped("rbac.authorization.k8s.io/v1", "ClusterRole"));
        assert!(!is_cluster_scoped("apps/v1", "Deployment"));
        // A kind of the same name in another group.
        assert!(!is_cluster_scoped("postgresql.cnpg.io/v1", "Node"));
        let definition = |scope: &str| {
            json!({"kind": "CustomResourceDefinition", "spec": {
                "group": "cert-manager.io", "scope": scope, "names": {"kind": "ClusterIssuer"}}})
        };
        let named = [("cert-manager.io".to_owned(), "ClusterIssuer".to_owned())];
        assert_eq!(list_cluster_scoped_kinds([&definition("Cluster")]), named);
        assert_eq!(list_cluster_scoped_kinds([&definition("Namespaced")]), []);
    }
}
