//! Check `nodes`: the nodes are ready, and every locked image was fetched for their platforms.

use std::collections::BTreeMap;

use cluster::ObjectScope;
use cluster::objects::api::core::v1::Node;
use types::Platform;
use types::lock::LockedImage;

use super::{CheckFinding, CheckName, CheckSubject, FindingState};

/// The most images that are named for a missing platform.
const SHOWN: usize = 5;

/// Checks all nodes, and the platforms of the locked images.
pub(super) async fn check_nodes(subject: &CheckSubject) -> Vec<CheckFinding> {
    let nodes = match subject.cluster.list_objects::<Node>(ObjectScope::Cluster, "").await {
        Ok(nodes) => nodes,
        Err(error) => {
            return vec![CheckFinding::from_cluster_error(
                CheckName::Nodes,
                "cluster",
                "nodes",
                &error,
                FindingState::Warning,
            )];
        }
    };
    if nodes.is_empty() {
        return vec![
            CheckFinding::failed(CheckName::Nodes, "cluster", "nodes")
                .with_reason("the cluster has no nodes", "join a node to the cluster"),
        ];
    }
    let mut findings: Vec<CheckFinding> = nodes.iter().map(check_node).collect();
    let mut platforms: BTreeMap<Platform, Vec<String>> = BTreeMap::new();
    // Grouped, so that a missing platform is one finding and not one for each node.
    for node in nodes.iter().filter(|node| is_schedulable(node)) {
        if let Some(platform) = node_platform(node) {
            platforms.entry(platform).or_default().push(node_name(node));
        }
    }
    let Some(lock) = &subject.lock else { return findings };
    for (platform, nodes) in platforms {
        let place = nodes.join(", ");
        let what = format!("images for {platform}");
        let missing: Vec<&LockedImage> =
            lock.images.iter().filter(|image| !has_platform(image, &platform)).collect();
        findings.push(match missing.as_slice() {
            [] => {
                let why = format!("all {} locked images have this platform", lock.images.len());
                CheckFinding::ok(CheckName::Nodes, place, what, why)
            }
            missing => {
                let names: Vec<String> =
                    missing.iter().take(SHOWN).map(|image| image.reference.to_string()).collect();
                let more = missing.len().saturating_sub(SHOWN);
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                let why = format!("these images were not locked for it: {}{more}", names.join(", "));
                let next = format!(
                    "add {platform} to platforms: in gantry.yaml, then lock, fetch and pack again; or keep these pods off such nodes"
                );
                // A cluster of two architectures may restrict some workloads to one of them, so
                // only a platform without any image is a failure.
                match missing.len() < lock.images.len() {
                    true => CheckFinding::warning(CheckName::Nodes, place, what).with_reason(why, next),
                    false => CheckFinding::failed(CheckName::Nodes, place, what).with_reason(why, next),
                }
            }
        });
    }
    findings
}

/// Checks one node.
fn check_node(node: &Node) -> CheckFinding {
    let what = format!("Node {}", node_name(node));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    let ready = conditions.unwrap_or_default().iter().find(|one| one.type_ == "Ready");
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    match ready {
        Some(ready) if ready.status == "True" && is_schedulable(node) => {
            let seen = info.map_or_else(String::new, |info| {
                format!(
                    ", {}/{}, {}, kubelet {}",
                    info.operating_system,
                    info.architecture,
                    info.container_runtime_version,
                    info.kubelet_version
                )
            });
            CheckFinding::ok(CheckName::Nodes, "cluster", what, format!("ready{seen}"))
        }
        Some(ready) if ready.status == "True" => {
            CheckFinding::warning(CheckName::Nodes, "cluster", what).with_reason(
                "it is ready, but accepts no pods (cordoned)",
                "uncordon it when it may run pods again",
            )
        }
        ready => {
            let message = ready.and_then(|ready| ready.message.clone());
            let why = message.unwrap_or_else(|| "it reports no status".to_owned());
            CheckFinding::failed(CheckName::Nodes, "cluster", what).with_reason(
                format!("not ready: {why}"),
                "check its kubelet and its container runtime",
            )
        }
    }
}

/// The name of a node.
pub(super) fn node_name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

/// Whether a node accepts new pods (is not cordoned).
pub(super) fn is_schedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true)
}

/// The platform of a node, as its kubelet reports it.
pub(super) fn node_platform(node: &Node) -> Option<Platform> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    format!("{}/{}", info.operating_system, info.architecture).parse().ok()
}

/// Whether a locked image has a manifest for a platform.
pub(super) fn has_platform(image: &LockedImage, platform: &Platform) -> bool {
    image.platform_manifests().any(|manifest| {
        // Single manifests may name no platform; then nothing speaks against this one.
        manifest.platform.as_ref().is_none_or(|own| own.satisfies(platform))
    })
}
