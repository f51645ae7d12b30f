//! The PersistentVolumeClaims of a release, which hold data: what happens to them when it is removed, and
//! which ones they are.

use cluster::objects::api::core::v1::PersistentVolumeClaim;
use cluster::{Cluster, ObjectScope};
use serde_json::Value;

use super::objects::RenderedObject;
use crate::Result;

/// What happens to the PersistentVolumeClaims of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRetention {
    /// They are kept.
    Kept,
    /// They are deleted with their data.
    Deleted,
}

/// Lists the existing claims of a release: those among its objects, and those that its StatefulSets
/// created from templates, which are named `<template>-<set>-<number>`.
pub(super) async fn list_own_claims(
    cluster: &Cluster,
    namespace: &str,
    objects: &[RenderedObject],
) -> Result<Vec<String>> {
    let mut exact = Vec::new();
    let mut begins = Vec::new();
    for object in objects {
        match object.id.kind.as_str() {
            "PersistentVolumeClaim" => exact.push(object.id.name.as_str()),
            "StatefulSet" => {
                let templates = object.value.pointer("/spec/volumeClaimTemplates");
                for template in templates.and_then(Value::as_array).into_iter().flatten() {
                    if let Some(name) = template.pointer("/metadata/name").and_then(Value::as_str) {
                        begins.push(format!("{name}-{}-", object.id.name));
                    }
                }
            }
            _ => {}
        }
    }
    if exact.is_empty() && begins.is_empty() {
        return Ok(vec![]);
    }
    // Only digits may follow: a set `db` must not take the claims of a set `db-backup` with it.
    let is_numbered = |name: &str| {
        let mut rest = begins.iter().filter_map(|begin| name.strip_prefix(begin.as_str()));
        rest.any(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let all = cluster
        .list_objects::<PersistentVolumeClaim>(ObjectScope::Namespace(namespace), "")
        .await?;
    let names = all.into_iter().filter_map(|claim| claim.metadata.name);
    Ok(names.filter(|name| exact.contains(&name.as_str()) || is_numbered(name)).collect())
}
