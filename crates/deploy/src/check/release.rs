//! Which objects of the cluster belong to a release. helm and Gantry mark the objects that they create; pods,
//! which controllers create, are found by the selectors of their workloads.

use std::collections::BTreeMap;

use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// The annotation that helm sets on every object of a release (helm, `pkg/action/validate.go`).
const RELEASE: &str = "meta.helm.sh/release-name";
/// Labels with the name of the release: Gantry's on the objects of manifests, the one that charts set by convention (helm.sh, "Labels and
/// Annotations"), and that of old charts.
const LABELS: [&str; 3] = [crate::release::RELEASE, "app.kubernetes.io/instance", "release"];

/// A release that is, or will be, deployed, as the checks see it.
#[derive(Debug, Clone)]
pub struct CheckedRelease {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The Kubernetes version that it was locked for, if `gantry.yaml` names one.
    pub kube_version: Option<String>,
    /// The objects that it renders to, or the reason why it was not rendered.
    pub manifests: Result<Vec<Value>, String>,
}

impl CheckedRelease {
    /// Whether an object is marked as belonging to this release.
    pub fn is_owner_of(&self, metadata: &ObjectMeta) -> bool {
        find_release_name(metadata).is_some_and(|name| name == self.name)
    }

    /// The rendered objects of a kind.
    pub(super) fn documents_of_kind<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        let manifests = self.manifests.as_deref().unwrap_or_default();
        manifests.iter().filter(move |document| document["kind"].as_str() == Some(kind))
    }
}

/// The name of the release that an object is marked with.
pub(super) fn find_release_name(metadata: &ObjectMeta) -> Option<&str> {
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(RELEASE));
    let labels = metadata.labels.as_ref();
    let label = || labels.and_then(|labels| LABELS.iter().find_map(|key| labels.get(*key)));
    annotation.or_else(label).map(String::as_str)
}

/// Whether labels match the `matchLabels` of a selector.
pub(super) fn is_selector_match(
    selector: Option<&BTreeMap<String, String>>,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    // In Kubernetes an empty selector matches everything, which here would be somebody else's pods.
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { return false };
    selector.iter().all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
}
