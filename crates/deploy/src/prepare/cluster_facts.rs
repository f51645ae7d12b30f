//! What a chart's templates can ask of the cluster, so that a render without it has the same answers.

use cluster::{Cluster, DiscoveredKinds};

use crate::Result;

/// The version and the API versions of a cluster, as helm takes them. Without any, a chart renders for those
/// that gantry.yaml names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The version of Kubernetes, as `--kube-version` accepts it; absent where it is not known.
    pub kube_version: Option<String>,
    /// The API versions beside those of Kubernetes itself.
    pub api_versions: Vec<String>,
}

impl ClusterFacts {
    /// Asks the cluster.
    pub async fn read(cluster: &Cluster, kinds: &DiscoveredKinds) -> Result<Self> {
        let version = cluster.fetch_version().await?.git_version;
        Ok(Self {
            kube_version: Some(strip_suffix(&version).to_owned()),
            api_versions: kinds.list_custom_api_versions(),
        })
    }
}

/// A version without what distributions append to it (`v1.33.4+k3s1`).
fn strip_suffix(version: &str) -> &str {
    let version = version.trim_start_matches('v');
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    &version[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_distribution_is_one_that_helm_takes() {
        assert_eq!(strip_suffix("v1.33.4+k3s1"), "1.33.4");
        assert_eq!(strip_suffix("v1.34.0-rc.1"), "1.34.0");
        assert_eq!(strip_suffix("1.30.2"), "1.30.2");
    }
}
