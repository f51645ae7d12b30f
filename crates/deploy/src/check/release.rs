//! What belongs to a release in the cluster. helm marks what it makes; pods are found by the
//! selectors of their workloads.

use std::collections::BTreeMap;

use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// helm's own mark on the objects of a release.
const RELEASE: &str = "meta.helm.sh/release-name";
/// The label that charts set by convention, and the one of old charts.
const LABELS: [&str; 2] = ["app.kubernetes.io/instance", "release"];

/// A release that is, or will be, deployed.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The version of Kubernetes that it was locked for, where one was given.
    pub kube_version: Option<String>,
    /// What it renders to, or why that is not known.
    pub manifests: Result<Vec<Value>, String>,
}

impl Release {
    /// Whether an object is marked as this release's.
    pub fn owns(&self, metadata: &ObjectMeta) -> bool {
        marked(metadata).is_some_and(|name| name == self.name)
    }

    /// The documents of a kind.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let manifests = self.manifests.as_deref().unwrap_or_default();
        manifests.iter().filter(move |document| document["kind"].as_str() == Some(kind))
    }
}

/// The release that an object is marked as.
pub(super) fn marked(metadata: &ObjectMeta) -> Option<&str> {
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(RELEASE));
    let labels = metadata.labels.as_ref();
    let label = || labels.and_then(|labels| LABELS.iter().find_map(|key| labels.get(*key)));
    annotation.or_else(label).map(String::as_str)
}

/// Whether labels fit a selector's `matchLabels`.
pub(super) fn selects(
    selector: Option<&BTreeMap<String, String>>,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { return false };
    selector.iter().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
}
