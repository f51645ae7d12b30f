//! What a relocation takes into account beside the chart and the site.

use types::site_content::SiteContent;

use super::pull_policies::PullPolicy;
use crate::OperatorRules;
use crate::overlay::OverlaySetting;

/// What a relocation takes into account beside the chart and the site.
#[derive(Debug, Clone, Copy)]
pub struct RelocationOptions<'a> {
    /// The rules that know which images operators start without a manifest that names them.
    pub rules: &'a OperatorRules,
    /// What the site will hold. Without it, images are not checked against the lock.
    pub locked: Option<&'a SiteContent>,
    /// The pull policy that every image gets. Without it, the chart's own policies stay.
    pub pull_policy: Option<PullPolicy>,
    /// Values that every render already has and that the overlay includes: the switches of
    /// [`crate::offline`] and the offline configuration of [`crate::wiring`].
    pub settings: &'a [OverlaySetting],
}

impl Default for RelocationOptions<'_> {
    fn default() -> Self {
        Self { rules: OperatorRules::builtin(), locked: None, pull_policy: None, settings: &[] }
    }
}
