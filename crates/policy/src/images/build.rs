//! Writes a policy for the admission controller that is asked for.

use serde_json::Value;

use super::spec::{ImagePolicySpec, PolicyEngine};
use super::{gatekeeper, kyverno, vap};
use crate::Result;

/// Builds the manifests of a policy, in the order in which they have to be applied.
pub fn build_manifests(kind: PolicyEngine, request: &ImagePolicySpec) -> Result<Vec<Value>> {
    match kind {
        PolicyEngine::Vap => vap::build_vap_manifests(request),
        PolicyEngine::Kyverno => kyverno::build_kyverno_manifests(request),
        PolicyEngine::Gatekeeper => Ok(gatekeeper::build_gatekeeper_manifests(request)),
    }
}
