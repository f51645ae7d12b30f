//! Reads the objects of the audited namespaces from the cluster, and the cluster-wide ones that concern
//! all namespaces. Of Secrets only the keys are kept.

use cluster::{Cluster, ObjectScope, Permission};
use serde_json::Value;
use types::pod_kinds::POD_KINDS;

use super::finding::redact_secret;
use crate::Result;

/// The kinds that are read in each namespace: API version, kind, resource.
const KINDS: &[(&str, &str, &str)] = &[
    ("v1", "Pod", "pods"),
    ("v1", "Service", "services"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Secret", "secrets"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("batch/v1", "Job", "jobs"),
    ("batch/v1", "CronJob", "cronjobs"),
    ("networking.k8s.io/v1", "Ingress", "ingresses"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
];
/// The cluster-wide kinds.
const CLUSTER_KINDS: &[(&str, &str, &str)] = &[
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    ),
];
/// Kinds of operators that may lead outside, read where the cluster has them. The other kinds with
/// pods ([`POD_KINDS`]) are read in the same way: an audit asks for no rights for what is rare.
const OPTIONAL: &[(&str, &str)] = &[
    ("cert-manager.io/v1", "ClusterIssuer"),
    ("cert-manager.io/v1", "Issuer"),
    ("networking.istio.io/v1", "ServiceEntry"),
];

/// The rights that an audit needs for reading: in these namespaces, or in all when the list is empty.
pub fn required_rights(namespaces: &[String]) -> Vec<Permission> {
    let right = |(version, _, resource): &(&str, &str, &str)| {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        Permission::new("list", group, resource)
    };
    let mut rights: Vec<Permission> = CLUSTER_KINDS.iter().map(right).collect();
    rights.extend([
        Permission::new("list", "", "nodes"),
        Permission::new("list", "", "services"),
        Permission::new("list", "", "pods"),
        Permission::new("list", "discovery.k8s.io", "endpointslices").in_namespace("default"),
    ]);
    for kind in KINDS {
        if namespaces.is_empty() {
            rights.push(right(kind));
        }
        rights.extend(namespaces.iter().map(|namespace| right(kind).in_namespace(namespace)));
    }
    rights
}

/// The objects of these namespaces (of all when the list is empty), without those that another object
/// of the list has made.
pub async fn read_live_objects(cluster: &Cluster, namespaces: &[String]) -> Result<Vec<Value>> {
    let scopes: Vec<ObjectScope<'_>> = match namespaces {
        [] => vec![ObjectScope::Cluster],
        namespaces => namespaces.iter().map(|name| ObjectScope::Namespace(name)).collect(),
    };
    let mut objects = Vec::new();
    for scope in scopes {
        for (version, kind, _) in KINDS {
            objects.extend(cluster.list_manifests(version, kind, scope, "").await?);
        }
        for (version, kind) in list_optional_kinds() {
            match cluster.list_manifests(&version, kind, scope, "").await {
                Ok(found) => objects.extend(found),
                // Optional: neither a missing operator nor a missing right stops the audit.
                Err(cluster::Error::NoKind { .. } | cluster::Error::Forbidden { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for (version, kind, _) in CLUSTER_KINDS {
        objects.extend(cluster.list_manifests(version, kind, ObjectScope::Cluster, "").await?);
    }
    // Else each finding of a Deployment would be there again for its ReplicaSets and pods.
    objects.retain(|object| !is_controlled(object));
    Ok(objects.iter().map(strip_object).collect())
}

/// The kinds that are read where the cluster has them and the user may: API version and kind.
fn list_optional_kinds() -> Vec<(String, &'static str)> {
    let other_pods = POD_KINDS.iter().filter(|own| KINDS.iter().all(|kind| kind.1 != own.kind));
    let operators = OPTIONAL.iter().map(|(version, kind)| ((*version).to_owned(), *kind));
    operators.chain(other_pods.map(|own| (own.api_version(), own.kind))).collect()
}

/// Whether a controller made it: a pod of a Deployment has no settings of its own to report.
fn is_controlled(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let is_controller = |owner: &Value| owner.get("controller") == Some(&Value::Bool(true));
    // The kinds that other kinds of the list make.
    let is_made = matches!(
        object.get("kind").and_then(Value::as_str),
        Some("Pod" | "ReplicaSet" | "ReplicationController" | "Job")
    );
    is_made && owners.is_some_and(|owners| owners.iter().any(is_controller))
}

/// An object without what the cluster wrote into it, and without the values of Secrets. The annotation
/// of `kubectl apply` is a copy of the whole object, and would be found a second time.
fn strip_object(object: &Value) -> Value {
    let mut object = redact_secret(object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_with_pods_is_read() {
        let optional = list_optional_kinds();
        for own in POD_KINDS {
            let version = own.api_version();
            let is_read = KINDS.contains(&(&version, own.kind, own.resource))
                || optional.contains(&(version.clone(), own.kind));
            assert!(is_read, "{}", own.kind);
        }
    }

    #[test]
    fn only_what_a_controller_made_is_left_to_its_owner() {
        let object = |kind: &str, owners: Value| serde_json::json!({"kind": kind, "metadata": {"ownerReferences": owners}});
        let controller = serde_json::json!([{"controller": true}]);
        for kind in ["Pod", "ReplicaSet", "Job", "ReplicationController"] {
            assert!(is_controlled(&object(kind, controller.clone())), "{kind}");
            assert!(!is_controlled(&object(kind, serde_json::json!([{"name": "x"}]))), "{kind}");
        }
        // An operator's Deployment is what a person would look at; no other object of the list has it.
        assert!(!is_controlled(&object("Deployment", controller)));
        assert!(!is_controlled(&object("Pod", Value::Null)));
    }

    #[test]
    fn what_the_cluster_wrote_into_an_object_is_not_searched() {
        let object = serde_json::json!({"kind": "Ingress", "status": {"x": 1}, "spec": {"y": 2}, "metadata": {
            "managedFields": [], "name": "web",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "own": "1"}}});
        let expected = serde_json::json!({"kind": "Ingress", "spec": {"y": 2},
            "metadata": {"name": "web", "annotations": {"own": "1"}}});
        assert_eq!(strip_object(&object), expected);
    }

    #[test]
    fn an_audit_of_some_namespaces_asks_for_secrets_in_those_alone() {
        let secrets = |namespaces: &[&str]| {
            let namespaces: Vec<String> =
                namespaces.iter().map(|name| (*name).to_owned()).collect();
            let rights = required_rights(&namespaces);
            let right = Permission::new("list", "", "secrets");
            let own = |name: &str| rights.contains(&right.clone().in_namespace(name));
            (rights.contains(&right), own("shop"), own("other"))
        };
        assert_eq!(secrets(&[]), (true, false, false));
        assert_eq!(secrets(&["shop"]), (false, true, false));
    }
}
