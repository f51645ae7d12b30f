//! Installs the webhook in a cluster: permissions are checked first, and its pods have to be ready
//! before the configuration makes the API server call them (else pods would be denied meanwhile).

use std::time::{Duration, Instant};

use cluster::objects::api::apps::v1::Deployment;
use cluster::objects::api::core::v1::Pod;
use cluster::{
    ApplyEffect, ApplyMode, Cluster, ObjectScope, Permission, explain_pod, is_being_deleted,
};
use serde_json::Value;

use crate::Result;

/// How often the Deployment's state is read while waiting.
const LOOK: Duration = Duration::from_millis(500);
/// How long its pods may take to become ready: their image has to be pulled.
const LONGEST: Duration = Duration::from_secs(180);

/// The plural resource names of the kinds that the webhook consists of.
const RESOURCES: [(&str, &str); 14] = [
    ("ClusterRole", "clusterroles"),
    ("ClusterRoleBinding", "clusterrolebindings"),
    ("ConfigMap", "configmaps"),
    ("Deployment", "deployments"),
    ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    ("Namespace", "namespaces"),
    ("PodDisruptionBudget", "poddisruptionbudgets"),
    ("Role", "roles"),
    ("RoleBinding", "rolebindings"),
    ("Secret", "secrets"),
    ("Service", "services"),
    ("ServiceAccount", "serviceaccounts"),
    ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
    ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
];

/// Applies the manifests in their order, and waits for the Deployment before the configuration.
/// Returns what was done to each.
pub async fn apply_manifests(
    cluster: &Cluster,
    manifests: &[Value],
    namespace: &str,
) -> Result<Vec<ApplyEffect>> {
    cluster.require_permissions("installing the webhook", &required_permissions(manifests)).await?;
    let mut done = Vec::with_capacity(manifests.len());
    let mut started: Option<String> = None;
    for manifest in manifests {
        // The next object makes the API server call the pods: they have to answer from then on.
        if manifest["kind"] == "MutatingWebhookConfiguration"
            && let Some(name) = started.take()
        {
            wait_for_deployment(cluster, namespace, &name).await?;
        }
        let written = cluster.apply_manifest(manifest, namespace, ApplyMode::Apply).await?;
        if written.id.kind == "Deployment" {
            started = Some(written.id.name.clone());
        }
        done.push(written.applied);
    }
    Ok(done)
}

/// The permissions that applying the manifests needs.
fn required_permissions(manifests: &[Value]) -> Vec<Permission> {
    let text = |manifest: &Value, pointer: &str| {
        manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let rights = manifests.iter().flat_map(|manifest| {
        let kind = text(manifest, "/kind");
        let resource =
            RESOURCES.iter().find(|(known, _)| *known == kind).map(|(_, plural)| *plural);
        let version = text(manifest, "/apiVersion");
        let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
        let namespace = text(manifest, "/metadata/namespace");
        // Server-side apply is a patch, and a create where the object does not exist.
        ["get", "create", "patch"].map(|verb| {
            let right = Permission::new(verb, &group, resource.unwrap_or(&kind));
            if namespace.is_empty() { right } else { right.in_namespace(&namespace) }
        })
    });
    rights.collect()
}

/// Waits until a pod of the current version is ready, which it is only with its certificate and its
/// locks.
async fn wait_for_deployment(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let scope = ObjectScope::Namespace(namespace);
    let started = Instant::now();
    loop {
        let deployment: Option<Deployment> = cluster.get_object(scope, name).await?;
        let status = deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
        let generation = deployment.as_ref().and_then(|it| it.metadata.generation);
        // Until the controller has seen the new generation, the counts are about the old pods.
        let is_seen = status.is_some_and(|status| status.observed_generation >= generation);
        let updated = status.and_then(|status| status.updated_replicas).unwrap_or_default();
        let available = status.and_then(|status| status.available_replicas).unwrap_or_default();
        if is_seen && updated > 0 && available > 0 {
            return Ok(());
        }
        let selector = format!("app.kubernetes.io/name={name}");
        let pods: Vec<Pod> = cluster.list_objects(scope, &selector).await?;
        let mut living = pods.iter().filter(|pod| !is_being_deleted(pod));
        let reason = living.find_map(explain_pod);
        let is_late = started.elapsed() > LONGEST;
        if is_late {
            let (why, next) = match reason {
                Some(reason) => (reason.why, reason.next),
                None => ("none of its pods became ready".into(), "read its events".to_owned()),
            };
            let what = format!("Deployment {namespace}/{name}");
            return Err(cluster::Error::NotReady { what, why, next }.into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
