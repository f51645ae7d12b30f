//! The input of the offline configuration.

use serde_json::Value;

use super::site::SiteServices;
use super::table::WiringTable;
use crate::chart::HelmChart;
use crate::phone_home::PhoneHomeRules;

/// The input of [`crate::wiring::wire_release`]: a chart, its values, and what the site has.
#[derive(Debug, Clone, Copy)]
pub struct WiringRequest<'a> {
    /// The chart.
    pub chart: &'a HelmChart,
    /// The values, merged into one, that `render` renders with.
    pub user: &'a Value,
    /// The part of them that the user wrote. It is never changed.
    pub own: &'a Value,
    /// Where the site has models, and its CA and issuer.
    pub offline: &'a SiteServices,
    /// The rules: how runtimes are recognised, and what they need.
    pub table: &'a WiringTable,
    /// The rules for telemetry. Variables that switch it off are set with the rest.
    pub switches: &'a PhoneHomeRules,
}

/// The input of [`crate::wiring::wire_manifests`]: plain manifests, and what the site has.
#[derive(Debug, Clone, Copy)]
pub struct ManifestWiringRequest<'a> {
    /// The manifests.
    pub stream: &'a str,
    /// Where the site has models, and its CA and issuer.
    pub offline: &'a SiteServices,
    /// The rules: how runtimes are recognised, and what they need.
    pub table: &'a WiringTable,
    /// The rules for telemetry. Variables that switch it off are set with the rest.
    pub switches: &'a PhoneHomeRules,
}
