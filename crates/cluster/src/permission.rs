//! A permission of the user, as RBAC grants it.

use std::fmt;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use serde::Serialize;

/// The permission for one verb on a kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    /// `get`, `list`, `create`, `patch`, `delete`, …
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// The plural resource name, with its subresource if it has one: `pods/exec`.
    pub resource: String,
    /// The namespace; absent for the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl Permission {
    /// A permission in the whole cluster.
    pub fn new(verb: &str, group: &str, resource: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: None,
        }
    }

    /// The same permission in one namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The RBAC rule that grants these verbs on this permission's resource, in text form.
    pub(crate) fn format_rule(&self, verbs: &[&str]) -> String {
        let kind = if self.namespace.is_some() { "Role" } else { "ClusterRole" };
        format!(
            "{} {} (rule of a {kind}{}: {{apiGroups: [{:?}], resources: [{:?}], verbs: {verbs:?}}})",
            verbs.join(", "),
            self.resource,
            self.namespace.as_ref().map(|name| format!(" in {name}")).unwrap_or_default(),
            self.group,
            self.resource,
        )
    }

    pub(crate) fn to_access_review(&self) -> SelfSubjectAccessReview {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource.as_str(), None),
        };
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(self.verb.clone()),
                    group: Some(self.group.clone()),
                    resource: Some(resource.to_owned()),
                    subresource,
                    namespace: self.namespace.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        }
    }
}

impl fmt::Display for Permission {
    /// The rule that grants it, as it is written in a Role or ClusterRole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format_rule(&[&self.verb]))
    }
}
