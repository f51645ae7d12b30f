//! Configures the model runtimes of a release for offline use ("wiring"). Containers that load
//! models are recognised by rules (`rules/wiring.yaml`). Each of them gets the variables and mounts
//! with which it finds the site's models and does not try the internet; programs get the site's CA
//! where they look for one; and issuers of certificates become the site's issuer.
//!
//! Where a value of the chart reaches a container, the value goes into the overlay; such values are
//! found by markers and proven by another render, as [`crate::relocate`] does for images. What no
//! value reaches becomes a patch of the rendered objects, which `gantry post-render` applies. What
//! neither can do is a leftover with its next step.
//!
//! The data flow, with a file for each step:
//!
//! 1. `table` (the rules) and `site` (where models and the CA are) are the input.
//! 2. `settings`: values of the chart that a rule knows by name.
//! 3. `recognise`, `find_needs`: what each container needs (`needs`, made of `entries`); `pods` and
//!    `mounts` help.
//! 4. `candidates`, `probe`: which values of the chart reach which containers.
//! 5. `choose`, `plan`: the fewest values for all needs, and patches for the rest.
//! 6. `prove`: the overlay changes nothing else. `report` prints the result.
//!
//! `pipeline` has the order of these steps; `request` is their input and `offline_wiring` the result.

mod candidates;
mod choose;
mod entries;
mod find_needs;
mod issuers;
mod mounts;
mod needs;
mod offline_wiring;
pub mod patch;
mod pipeline;
mod plan;
mod pods;
mod probe;
mod prove;
mod recognise;
mod report;
mod request;
mod settings;
mod site;
mod table;

pub use offline_wiring::{OfflineWiring, WiringAction, WiringLeftover};
pub use patch::{ObjectPatch, PatchFile};
pub use pipeline::{wire_manifests, wire_release};
pub use report::WiringReportRow;
pub use request::{ManifestWiringRequest, WiringRequest};
pub use site::{CA_KEY, CA_NAME, CaObjectKind, ModelSource, SiteCa, SiteServices};
pub use table::WiringTable;

pub use crate::overlay::OverlaySetting;
