//! Which object a manifest is, as far as it says itself.

use std::fmt;

use serde_json::Value;

use super::fault::DocumentPlace;
use crate::manifest::api_group;

/// Kinds of Kubernetes whose objects are in no namespace (kubernetes.io, API reference; `kubectl
/// api-resources --namespaced=false`). For others only the cluster knows.
const CLUSTER_SCOPED: &[&str] = &[
    "APIService",
    "CSIDriver",
    "CSINode",
    "ClusterIssuer",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "FlowSchema",
    "IngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "PriorityLevelConfiguration",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
    "VolumeSnapshotClass",
];

/// What tells objects apart: two manifests with the same key are one object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `apps`; empty for the core group. The version does not count: one object has all of them.
    pub group: String,
    /// `Deployment`.
    pub kind: String,
    /// The namespace that the manifest names.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// Reads the key of a manifest; `None` where it has no kind or no name.
    pub fn from_manifest(object: &Value) -> Option<Self> {
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Some(Self {
            group: api_group(object).to_owned(),
            kind: text(object.get("kind"))?,
            namespace: text(object.pointer("/metadata/namespace")),
            name: text(object.pointer("/metadata/name"))?,
        })
    }

    /// The key with the namespace that the object has in a release of this namespace.
    #[must_use]
    pub fn in_namespace(&self, release: Option<&str>) -> Self {
        let namespace = match CLUSTER_SCOPED.contains(&self.kind.as_str()) {
            true => None,
            false => self.namespace.clone().or_else(|| release.map(str::to_owned)),
        };
        Self { namespace, ..self.clone() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object of a set, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedObject {
    /// Which object it is.
    pub key: ObjectKey,
    /// The document that has it.
    pub place: DocumentPlace,
}
