//! The settings of a soak, and the rights that it needs with them.

use std::net::SocketAddr;
use std::time::Duration;

use cluster::Permission;

use crate::helper_namespace::NAMESPACE;
use crate::pull_secret_loan::PullSecretLoan;

/// How DNS names are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameObservation {
    /// By a sink in a pod.
    Pod,
    /// By a sink in this process, at an address that pods can reach.
    Local(SocketAddr),
    /// Not at all.
    NotSeen,
}

/// How connections are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionObservation {
    /// By a watcher on every node.
    Seen,
    /// Not at all.
    NotSeen,
}

/// The settings of a soak.
#[derive(Debug, Clone)]
pub struct SoakOptions {
    /// How DNS names are observed.
    pub names: NameObservation,
    /// How connections are observed.
    pub connections: ConnectionObservation,
    /// The reference of Gantry's own image, as nodes pull it.
    pub image: String,
    /// A pull secret for it: its namespace and its name.
    pub pull_secret: Option<(String, String)>,
    /// How long to listen.
    pub length: Duration,
}

/// The rights that a soak needs, to be checked before anything is changed.
pub fn required_rights(plan: &SoakOptions) -> Vec<Permission> {
    let system = |verb: &str, resource: &str| {
        Permission::new(verb, "", resource).in_namespace("kube-system")
    };
    let mut rights: Vec<Permission> =
        ["list", "watch"].map(|verb| Permission::new(verb, "", "pods")).into();
    rights.extend(["get", "create", "update", "delete"].map(|verb| system(verb, "configmaps")));
    if needs_helpers(plan) {
        let own = |verb: &str, resource: &str| {
            Permission::new(verb, "", resource).in_namespace(NAMESPACE)
        };
        rights
            .extend(["get", "patch", "delete"].map(|verb| Permission::new(verb, "", "namespaces")));
        rights.extend(["get", "create", "delete"].map(|verb| own(verb, "pods")));
        rights.push(own("get", "pods/log"));
        if let Some((namespace, _)) = &plan.pull_secret {
            rights.extend(PullSecretLoan::required_rights(namespace));
        }
    }
    if plan.names != NameObservation::NotSeen {
        rights.push(system("patch", "pods"));
    }
    rights
}

/// Whether an audit with these settings runs pods of its own.
pub(crate) fn needs_helpers(plan: &SoakOptions) -> bool {
    plan.names == NameObservation::Pod || plan.connections == ConnectionObservation::Seen
}
