//! Writes admission policies that admit pods, and all kinds that create pods, only with locked
//! images under their names at the site. All lists of containers and image volumes are checked.
//!
//! [`cel`] has the rule itself; [`vap`] and [`kyverno`] wrap it for the API server and for Kyverno;
//! [`gatekeeper`] has the same rule in Rego; [`list`] writes the list of images.

mod cel;
mod gatekeeper;
mod kyverno;
mod list;
mod vap;

use serde_json::Value;

use crate::name::object_name;
use crate::{Admit, Allowed, Result, Scope};

/// The admission controller that a policy is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ValidatingAdmissionPolicy`, in the API server itself (Kubernetes 1.30 and newer).
    Vap,
    /// Kyverno's `ClusterPolicy` (1.11 and newer).
    Kyverno,
    /// OPA Gatekeeper's `ConstraintTemplate` with a constraint.
    Gatekeeper,
}

/// What happens to a pod with an image that is not locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is refused.
    Deny,
    /// It is admitted with a warning, to see what would be refused.
    Warn,
}

/// The content of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The name of all objects.
    pub name: String,
    /// The images that may start.
    pub allowed: Allowed,
    /// The namespaces that the policy applies to.
    pub scope: Scope,
    /// What happens to pods with other images.
    pub action: Action,
}

impl Request {
    /// The name of the policy of a lock; each lock has a policy of its own.
    pub fn name_of(lock: &str) -> String {
        object_name("gantry-images", lock)
    }

    /// The second half of the message about refused images, after their names: why, and what to do.
    /// It is embedded in CEL, so it must not contain double quotes.
    fn advice(&self) -> String {
        let site = self.allowed.site.trim_end_matches('/');
        let (rule, name) = match self.allowed.admit {
            Admit::TagsAndDigests => ("not among the locked images", ""),
            Admit::Digests => ("not named by a locked digest", " with its digest from gantry.lock"),
        };
        format!(
            "{rule} of {site}. Use the image's name at the site{name} (gantry relocate, gantry \
             post-render), or bring the image in: add it to gantry.yaml, then run gantry lock, \
             fetch, pack, load, and gantry policy images again"
        )
    }
}

/// Builds the manifests of a policy, in the order in which they have to be applied.
pub fn manifests(kind: Kind, request: &Request) -> Result<Vec<Value>> {
    match kind {
        Kind::Vap => vap::manifests(request),
        Kind::Kyverno => kyverno::manifests(request),
        Kind::Gatekeeper => Ok(gatekeeper::manifests(request)),
    }
}
