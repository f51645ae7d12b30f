//! Discovery of all kinds of objects that a cluster has: which API versions a render may use, and
//! the resource name of a kind for permissions on it.

use kube::core::GroupVersionKind;
use kube::core::discovery::Scope as KindScope;
use kube::discovery::Discovery;

use crate::{Cluster, Error, Permission, Result};

/// All kinds of objects that a cluster has.
pub struct DiscoveredKinds {
    discovery: Discovery,
}

/// A kind by its resource name, which permissions and API paths use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKind {
    /// The API group; empty for the core.
    pub group: String,
    /// The plural resource name: `deployments`.
    pub plural: String,
    /// Whether its objects belong to a namespace.
    pub is_namespaced: bool,
}

impl ResourceKind {
    /// The permission for a verb on it; in the given namespace if its objects belong to one.
    pub fn permission(&self, verb: &str, namespace: &str) -> Permission {
        let right = Permission::new(verb, &self.group, &self.plural);
        if self.is_namespaced { right.in_namespace(namespace) } else { right }
    }
}

impl Cluster {
    /// Reads all kinds of the cluster: with two requests, or with one for each group if the API
    /// server has no aggregated discovery (it is stable from Kubernetes 1.30 on).
    pub async fn discover_kinds(&self) -> Result<DiscoveredKinds> {
        let discovery = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(discovery) => Ok(discovery),
            Err(_) => Discovery::new(self.client.clone()).run().await,
        };
        let discovery =
            discovery.map_err(|error| Error::from_kube("listing the kinds of objects", error))?;
        Ok(DiscoveredKinds { discovery })
    }
}

impl DiscoveredKinds {
    /// The resource of a kind; `None` when the cluster does not have it.
    pub fn find_resource(&self, api_version: &str, kind: &str) -> Option<ResourceKind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = self.discovery.resolve_gvk(&wanted)?;
        Some(ResourceKind {
            group: resource.group,
            plural: resource.plural,
            is_namespaced: capabilities.scope == KindScope::Namespaced,
        })
    }

    /// The API versions beyond Kubernetes' own, and their kinds, as charts query them with
    /// `.Capabilities.APIVersions.Has` (`monitoring.coreos.com/v1`,
    /// `monitoring.coreos.com/v1/ServiceMonitor`), sorted.
    pub fn list_custom_api_versions(&self) -> Vec<String> {
        let mut all = Vec::new();
        for group in self.discovery.groups() {
            // helm assumes Kubernetes' own groups in every render.
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
