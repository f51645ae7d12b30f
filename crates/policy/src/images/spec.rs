//! What an admission policy is to say, for whichever admission controller.

use crate::name::build_object_name;
use crate::{AdmittedVersions, AllowedImages, NamespaceScope};

/// The admission controller that a policy is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyEngine {
    /// `ValidatingAdmissionPolicy`, in the API server itself (Kubernetes 1.30 and newer).
    Vap,
    /// Kyverno's `ClusterPolicy` (1.11 and newer).
    Kyverno,
    /// OPA Gatekeeper's `ConstraintTemplate` with a constraint.
    Gatekeeper,
}

/// What happens to a pod with an image that is not locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyAction {
    /// It is refused.
    Deny,
    /// It is admitted with a warning, to see what would be refused.
    Warn,
}

/// The content of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePolicySpec {
    /// The name of all objects.
    pub name: String,
    /// The images that may start.
    pub allowed: AllowedImages,
    /// The namespaces that the policy applies to.
    pub scope: NamespaceScope,
    /// What happens to pods with other images.
    pub action: PolicyAction,
}

impl ImagePolicySpec {
    /// The name of the policy of a lock; each lock has a policy of its own.
    pub fn policy_name(lock: &str) -> String {
        build_object_name("gantry-images", lock)
    }

    /// The second half of the message about refused images, after their names: why, and what to do.
    /// It is embedded in CEL, so it must not contain double quotes.
    pub(super) fn refusal_advice(&self) -> String {
        let site = self.allowed.site.trim_end_matches('/');
        let (rule, name) = match self.allowed.admit {
            AdmittedVersions::TagsAndDigests => ("not among the locked images", ""),
            AdmittedVersions::Digests => {
                ("not named by a locked digest", " with its digest from gantry.lock")
            }
        };
        format!(
            "{rule} of {site}. Use the image's name at the site{name} (gantry relocate, gantry \
             post-render), or bring the image in: add it to gantry.yaml, then run gantry lock, \
             fetch, pack, load, and gantry policy images again"
        )
    }
}
