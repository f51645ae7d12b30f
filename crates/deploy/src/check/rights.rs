//! Check `rights`: the user has the permissions that a deploy needs. `release::rights` asks for
//! them again, with the API resources of the real cluster, when a deploy begins.

use std::collections::BTreeSet;

use cluster::objects::api::core::v1::Namespace;
use cluster::{ObjectScope, Permission};
use serde_json::Value;

use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState};

/// What Gantry and helm need in a namespace for any chart: pull secret and CA, helm's release
/// records, the pods of checks and of model uploads, port forwards. API group, resource, verbs.
const ALWAYS: [(&str, &str, &[&str]); 8] = [
    ("", "secrets", &["get", "list", "create", "update", "patch", "delete"]),
    ("", "configmaps", &["get", "list", "create", "patch", "delete"]),
    ("", "serviceaccounts", &["get", "list", "patch"]),
    ("", "pods", &["get", "list", "create", "delete"]),
    ("", "pods/log", &["get"]),
    ("", "pods/portforward", &["create"]),
    ("", "persistentvolumeclaims", &["get", "list", "create"]),
    ("", "events", &["list"]),
];
/// The verbs that helm uses on the objects of a chart.
const OF_OBJECTS: [&str; 4] = ["get", "create", "patch", "delete"];
/// Kinds that are not in a namespace. Written down, since this check also works on a render alone.
const OF_CLUSTER: [&str; 13] = [
    "APIService",
    "ClusterIssuer",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Checks the permissions to deploy all releases.
pub(super) async fn check_rights(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for release in &subject.releases {
        let what = format!("rights to deploy {}", release.name);
        let mut needed = list_needed_rights(release);
        let scope = ObjectScope::Cluster;
        // Without the right to read namespaces one may still have all rights in this one.
        if let Ok(None) = subject.cluster.get_object::<Namespace>(scope, &release.namespace).await {
            needed.insert(Permission::new("create", "", "namespaces"));
        }
        let needed: Vec<Permission> = needed.into_iter().collect();
        match subject.cluster.find_missing_permissions(&needed).await {
            Ok(missing) if missing.is_empty() => findings.push(CheckFinding::ok(
                CheckName::Rights,
                &release.namespace,
                what,
                format!("all {} permissions are granted", needed.len()),
            )),
            Ok(missing) => findings.extend(missing.iter().map(|right| {
                let what = format!("{} {} for {}", right.verb, right.resource, release.name);
                let why = format!("you may not {} {}", right.verb, right.resource);
                let next = format!("ask an administrator of the cluster for this rule: {right}");
                CheckFinding::failed(CheckName::Rights, &release.namespace, what)
                    .with_reason(why, next)
            })),
            Err(error) => findings.push(CheckFinding::from_cluster_error(
                CheckName::Rights,
                &release.namespace,
                what,
                &error,
                FindingState::Failed,
            )),
        }
    }
    if findings.is_empty() {
        let why = "there are no releases to deploy";
        findings.push(CheckFinding::skipped(CheckName::Rights, "cluster", "rights to deploy", why));
    }
    findings
}

/// Lists the permissions that a release needs: those for its rendered objects, and those for any
/// chart.
fn list_needed_rights(release: &CheckedRelease) -> BTreeSet<Permission> {
    let namespace = &release.namespace;
    let mut rights = BTreeSet::new();
    for (group, resource, verbs) in ALWAYS {
        rights.extend(
            verbs.iter().map(|verb| Permission::new(verb, group, resource).in_namespace(namespace)),
        );
    }
    for document in release.manifests.as_deref().unwrap_or_default() {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else { continue };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let resource = guess_resource_name(kind);
        let namespace = text("/metadata/namespace").unwrap_or(namespace);
        for verb in OF_OBJECTS {
            let right = Permission::new(verb, group, &resource);
            rights.insert(match OF_CLUSTER.contains(&kind) {
                true => right,
                false => right.in_namespace(namespace),
            });
        }
    }
    rights
}

/// Guesses the resource name of a kind with the rule of Kubernetes itself (apimachinery,
/// `meta.UnsafeGuessKindToResource`). Right for all built-in kinds; a custom one may differ.
fn guess_resource_name(kind: &str) -> String {
    let lower = kind.to_lowercase();
    if lower == "endpoints" {
        return lower;
    }
    match lower.as_bytes().last() {
        Some(b's') => format!("{lower}es"),
        Some(b'y') => format!("{}ies", &lower[..lower.len() - 1]),
        _ => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_release_needs_the_rights_of_its_render_and_gantry_s_own() {
        let release = CheckedRelease {
            name: "rag".into(),
            namespace: "ai".into(),
            kube_version: None,
            manifests: Ok(vec![
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}),
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}}),
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a"}}),
            ]),
        };
        let rights = list_needed_rights(&release);
        for right in [
            Permission::new("create", "apps", "deployments").in_namespace("ai"),
            Permission::new("patch", "networking.k8s.io", "networkpolicies").in_namespace("ai"),
            Permission::new("create", "rbac.authorization.k8s.io", "clusterroles"),
            Permission::new("create", "", "pods/portforward").in_namespace("ai"),
        ] {
            assert!(rights.contains(&right), "{right}");
        }
        assert_eq!(guess_resource_name("StorageClass"), "storageclasses");
    }
}
