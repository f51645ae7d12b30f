//! Check `rights`: the user has the permissions that a deploy needs (`release::rights`), and those for
//! checks and for loading models.

use std::collections::BTreeSet;

use cluster::objects::api::core::v1::Namespace;
use cluster::{ObjectScope, Permission, ResourceKind};
use serde_json::Value;

use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState};
use crate::release;

/// What Gantry needs in a namespace beside the deploy itself: pull secret, CA and service accounts, the
/// pods of checks and of model uploads, port forwards. API group, resource, verbs.
const BESIDE: [(&str, &str, &[&str]); 5] = [
    ("", "configmaps", &["get", "list", "create", "patch", "delete"]),
    ("", "serviceaccounts", &["get", "list", "patch"]),
    ("", "pods", &["create", "delete"]),
    ("", "pods/portforward", &["create"]),
    ("", "persistentvolumeclaims", &["list", "create"]),
];

/// Checks the permissions to deploy all releases.
pub(super) async fn check_rights(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    let kinds = match subject.cluster.discover_kinds().await {
        Ok(kinds) => kinds,
        Err(error) => {
            return vec![CheckFinding::from_cluster_error(
                CheckName::Rights,
                "cluster",
                "rights to deploy",
                &error,
                FindingState::Failed,
            )];
        }
    };
    for release in &subject.releases {
        let what = format!("rights to deploy {}", release.name);
        let find = |version: &str, kind: &str| kinds.find_resource(version, kind);
        let mut needed = list_needed_rights(release, &find);
        let scope = ObjectScope::Cluster;
        // Without the right to read namespaces one may still have all rights in this one.
        match subject.cluster.get_object::<Namespace>(scope, &release.namespace).await {
            Ok(None) => {
                needed.insert(Permission::new("create", "", "namespaces"));
            }
            // Whoever has all rights can create nothing in it.
            Ok(Some(found)) if found.metadata.deletion_timestamp.is_some() => {
                let error = cluster::Error::BeingDeleted {
                    doing: format!("deploying {}", release.name),
                    what: format!("namespace {}", release.namespace),
                };
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Rights,
                    &release.namespace,
                    what,
                    &error,
                    FindingState::Failed,
                ));
                continue;
            }
            _ => {}
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
/// chart. `find` looks up the resource of a kind; a kind that the cluster does not have yet has none.
fn list_needed_rights(
    release: &CheckedRelease,
    find: &dyn Fn(&str, &str) -> Option<ResourceKind>,
) -> BTreeSet<Permission> {
    let namespace = &release.namespace;
    let mut rights = release::list_namespace_rights(namespace);
    rights.extend(release::expand_rights(namespace, &BESIDE));
    for document in release.manifests.as_deref().unwrap_or_default() {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else { continue };
        let Some(resource) = find(version, kind) else { continue };
        let namespace = text("/metadata/namespace").unwrap_or(namespace);
        rights.extend(release::list_object_rights(&resource, namespace));
    }
    rights
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
                json!({"apiVersion": "shop.example/v1", "kind": "Widget", "metadata": {"name": "a"}}),
            ]),
        };
        let find = |version: &str, kind: &str| {
            let (plural, is_namespaced) = match kind {
                "Deployment" => ("deployments", true),
                "NetworkPolicy" => ("networkpolicies", true),
                "ClusterRole" => ("clusterroles", false),
                _ => return None,
            };
            let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
            Some(ResourceKind { group, plural: plural.to_owned(), is_namespaced })
        };

        let rights = list_needed_rights(&release, &find);

        for right in [
            Permission::new("create", "apps", "deployments").in_namespace("ai"),
            Permission::new("patch", "networking.k8s.io", "networkpolicies").in_namespace("ai"),
            Permission::new("create", "rbac.authorization.k8s.io", "clusterroles"),
            Permission::new("create", "", "pods/portforward").in_namespace("ai"),
        ] {
            assert!(rights.contains(&right), "{right}");
        }
        let unknown = |right: &Permission| right.resource.contains("widget");
        assert!(!rights.iter().any(unknown), "the cluster does not have this kind yet");
    }
}
