//! Finds what a chart connects to on the internet by itself: telemetry, update checks, model hubs,
//! addresses in its configuration. Known switches are data (`rules/phone-home.yaml`, `phoneHome:`
//! in `gantry.yaml`); addresses are found by their form. Works on the result of [`crate::inspect`];
//! [`crate::offline`] turns off what is safe to turn off.

mod addresses;
mod environment;
mod finding;
mod rules;
mod switches;

pub(crate) use environment::{has_same_meaning, is_idle_container, read_container_variables};
pub use finding::PhoneHomeFinding;
pub use rules::PhoneHomeRules;
