//! The kinds of objects that the cluster has, all at once: what a render may use, and what a right
//! on it is called.

use kube::core::GroupVersionKind;
use kube::core::discovery::Scope as KindScope;
use kube::discovery::Discovery;

use crate::{Cluster, Error, Result, Right};

/// The kinds of objects that a cluster has.
pub struct Kinds {
    discovery: Discovery,
}

/// A kind, as rights and paths call it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// `deployments`.
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
}

impl Resource {
    /// The right to do something with it, in a namespace where its objects are in one.
    pub fn right(&self, verb: &str, namespace: &str) -> Right {
        let right = Right::new(verb, &self.group, &self.plural);
        if self.is_namespaced { right.in_namespace(namespace) } else { right }
    }
}

impl Cluster {
    /// All kinds that the cluster has: two questions, or one a group where the API server is older
    /// than 1.30 and does not answer them together.
    pub async fn kinds(&self) -> Result<Kinds> {
        let discovery = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(discovery) => Ok(discovery),
            Err(_) => Discovery::new(self.client.clone()).run().await,
        };
        let discovery = discovery.map_err(|error| Error::of("asking for the kinds", error))?;
        Ok(Kinds { discovery })
    }
}

impl Kinds {
    /// The kind of an object; `None` when the cluster has none such.
    pub fn resource(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = self.discovery.resolve_gvk(&wanted)?;
        Some(Resource {
            group: resource.group,
            plural: resource.plural,
            is_namespaced: capabilities.scope == KindScope::Namespaced,
        })
    }

    /// The API versions beside Kubernetes' own, and their kinds, as charts ask for them
    /// (`monitoring.coreos.com/v1`, `monitoring.coreos.com/v1/ServiceMonitor`), sorted.
    pub fn foreign_versions(&self) -> Vec<String> {
        let mut all = Vec::new();
        for group in self.discovery.groups() {
            // Kubernetes' own groups are in every render.
            if !group.name().contains('.') || group.name().ends_with(".k8s.io") {
                continue;
            }
            for version in group.versions() {
                let name = format!("{}/{version}", group.name());
                let kinds = group.versioned_resources(version);
                all.extend(kinds.iter().map(|(resource, _)| format!("{name}/{}", resource.kind)));
                all.push(name);
            }
        }
        all.sort();
        all.dedup();
        all
    }
}
