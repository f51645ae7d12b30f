//! Only what was locked: a policy that admits pods, and everything that makes pods, only with the
//! site's names of locked images. Containers of every sort count, and image volumes.
//!
//! [`cel`] holds the rule itself; [`vap`] and [`kyverno`] wrap it for the API server and for
//! Kyverno, [`gatekeeper`] says the same in Rego.

mod cel;
mod gatekeeper;
mod kyverno;
mod list;
mod vap;

use serde_json::Value;

use crate::name::object_name;
use crate::{Admit, Allowed, Result, Scope};

/// Whose language the policy is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ValidatingAdmissionPolicy`, in the API server itself (Kubernetes 1.30 and newer).
    Vap,
    /// Kyverno's `ClusterPolicy` (1.11 and newer).
    Kyverno,
    /// OPA Gatekeeper's `ConstraintTemplate` with a constraint.
    Gatekeeper,
}

/// What is done with a pod that is not of the locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is refused.
    Deny,
    /// It is let in, and told: to see what would be refused.
    Warn,
}

/// What a policy is written from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The name of all objects.
    pub name: String,
    /// What may start.
    pub allowed: Allowed,
    /// Where the policy holds.
    pub scope: Scope,
    /// What is done with the others.
    pub action: Action,
}

impl Request {
    /// The name of the policy of a lock: two locks have two policies.
    pub fn name_of(lock: &str) -> String {
        object_name("gantry-images", lock)
    }

    /// What a person is told when an image is refused, after the images' names.
    fn advice(&self) -> String {
        let site = self.allowed.site.trim_end_matches('/');
        let (rule, name) = match self.allowed.admit {
            Admit::TagsAndDigests => ("not among the locked images", ""),
            Admit::Digests => ("not named by a locked digest", " with its digest from gantry.lock"),
        };
        format!(
            "{rule} of {site}. Name it as the site does{name} (gantry relocate, gantry post-render), \
             or carry it in: add it to gantry.yaml, then gantry lock, fetch, pack, load, and gantry \
             policy images again"
        )
    }
}

/// The manifests of a policy, in the order that they are applied in.
pub fn manifests(kind: Kind, request: &Request) -> Result<Vec<Value>> {
    match kind {
        Kind::Vap => vap::manifests(request),
        Kind::Kyverno => kyverno::manifests(request),
        Kind::Gatekeeper => Ok(gatekeeper::manifests(request)),
    }
}
