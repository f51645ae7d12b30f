//! Writes admission policies that admit pods, and all kinds that create pods, only with locked
//! images under their names at the site. All lists of containers and image volumes are checked.
//!
//! [`cel`] has the rule itself; [`vap`] and [`kyverno`] wrap it for the API server and for Kyverno;
//! [`gatekeeper`] has the same rule in Rego; [`list`] writes the list of images,
//! [`kinds`] says which kinds are judged. [`spec`] is what goes in.

mod build;
mod cel;
mod gatekeeper;
mod kinds;
mod kyverno;
mod list;
mod spec;
mod vap;

pub use build::build_manifests;
pub use spec::{ImagePolicySpec, PolicyAction, PolicyEngine};
