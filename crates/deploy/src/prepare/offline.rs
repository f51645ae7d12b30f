//! Configures a release for offline use: turns off features that connect to the internet by themselves
//! (`chart::offline`), and points its runtimes to the site's models and CA (`chart::wiring`).

use chart::OperatorRules;
use chart::inspect::Inspection;
use chart::offline::{self, OfflineValues};
use chart::phone_home::{PhoneHomeFinding, PhoneHomeRules};
use chart::relocate::RelocationTarget;
use chart::wiring::{self, OfflineWiring, OverlaySetting, WiringTable};
use resolve::OpenedChart;
use types::input::Input;

use crate::Result;

/// The rules that recognise what connects to the outside, and the site's host.
pub struct OfflineRules {
    rules: OperatorRules,
    switches: PhoneHomeRules,
    table: WiringTable,
    host: String,
}

/// What was changed to configure a release for offline use.
pub struct OfflineChanges {
    /// The features that were turned off.
    pub offline: OfflineValues,
    /// How its runtimes were configured.
    pub wiring: OfflineWiring,
}

impl OfflineChanges {
    /// All values that were set. The release already has them, so later renders include them.
    pub fn settings(&self) -> Vec<OverlaySetting> {
        let switches = self.offline.off.iter().map(OverlaySetting::from);
        switches.chain(self.wiring.settings.iter().cloned()).collect()
    }
}

impl OfflineRules {
    /// The built-in rules, with those of gantry.yaml on top.
    pub fn new(input: Option<&Input>, target: &RelocationTarget) -> Self {
        let (rules, switches, table) = match input {
            Some(input) => (
                OperatorRules::from_input(input),
                PhoneHomeRules::from_input(input),
                WiringTable::from_input(input),
            ),
            None => (
                OperatorRules::builtin().clone(),
                PhoneHomeRules::builtin().clone(),
                WiringTable::builtin().clone(),
            ),
        };
        // Without the port: other services of the site have other ports on the same host.
        let registry = target.prefix.registry();
        let host = registry.split(':').next().unwrap_or(registry).to_owned();
        Self { rules, switches, table, host }
    }

    /// The rules for images that operators have compiled in.
    pub fn rules(&self) -> &OperatorRules {
        &self.rules
    }

    /// Finds settings that make a release connect to the outside by itself.
    pub fn find_phone_home(&self, inspection: &Inspection) -> Vec<PhoneHomeFinding> {
        // Hosts in the same domain as the registry count as the site's own: with registry.site.internal
        // also git.site.internal. A domain without a dot (`com`) would cover far too much.
        let domain = self.host.split_once('.').map(|(_, domain)| domain);
        let domain = domain.filter(|domain| domain.contains('.'));
        let is_beside = |host: &str, domain: &str| {
            host.strip_suffix(domain).is_some_and(|host| host.ends_with('.'))
        };
        let is_inside =
            |host: &str| host == self.host || domain.is_some_and(|domain| is_beside(host, domain));
        self.switches.find_phone_home(inspection, &is_inside)
    }

    /// Finds how the runtimes of plain manifests are configured to use the site, as patches.
    ///
    /// # Errors
    /// A document that is not valid YAML.
    pub fn wire_manifests(
        &self,
        stream: &str,
        site: &wiring::SiteServices,
    ) -> Result<OfflineWiring> {
        let request = wiring::ManifestWiringRequest {
            stream,
            offline: site,
            table: &self.table,
            switches: &self.switches,
        };
        Ok(wiring::wire_manifests(&request)?)
    }

    /// Turns off what can be turned off safely, and configures the runtimes to use the site. Both are
    /// added to the release's values, so later renders include them.
    pub fn configure_release(
        &self,
        release: &mut OpenedChart,
        site: &wiring::SiteServices,
    ) -> Result<OfflineChanges> {
        let offline = {
            let inspection = release.inspect(&self.rules)?;
            let findings = self.find_phone_home(&inspection);
            let render = |overlay: Option<&str>| release.render(overlay);
            offline::turn_off_switches(&findings, &inspection.effective, &render)
        };
        // The values before the next line are the user's own choice, which wiring respects; those added
        // here may be replaced.
        let user = release.values().clone();
        release.add_values(&offline.values)?;
        // The render with the switches off comes first: a feature that is turned off may remove the
        // containers that would have to be configured.
        let wiring = {
            let render = |overlay: Option<&str>| release.render(overlay);
            let request = wiring::WiringRequest {
                chart: release.chart(),
                user: release.values(),
                own: &user,
                offline: site,
                table: &self.table,
                switches: &self.switches,
            };
            wiring::wire_release(&request, &render)
                .map_err(|error| release.to_remote_error(error))?
        };
        let effective = release.chart().effective_values(release.values());
        release.add_values(&wiring.overlay(&effective))?;
        Ok(OfflineChanges { offline, wiring })
    }
}
