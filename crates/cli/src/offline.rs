//! Configures a release for offline use: turns off features that connect to the internet by themselves
//! (`chart::offline`), and points its runtimes to the site's models and CA (`chart::wiring`).

use chart::Rules;
use chart::inspect::Inspection;
use chart::offline::{self, Offline};
use chart::phone_home::{Finding, Switches};
use chart::relocate::Target;
use chart::wiring::{self, Setting, Table, Wiring};
use resolve::Release;
use types::input::Input;

use crate::error::Result;

/// The rules that recognise what connects to the outside, and the site's host.
pub(crate) struct Inside {
    rules: Rules,
    switches: Switches,
    table: Table,
    host: String,
}

/// What was changed to configure a release for offline use.
pub(crate) struct Kept {
    /// The features that were turned off.
    pub(crate) offline: Offline,
    /// How its runtimes were configured.
    pub(crate) wiring: Wiring,
}

impl Kept {
    /// All values that were set. The release already has them, so later renders include them.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let switches = self.offline.off.iter().map(Setting::from);
        switches.chain(self.wiring.settings.iter().cloned()).collect()
    }
}

impl Inside {
    /// The built-in rules, with those of gantry.yaml on top.
    pub(crate) fn new(input: Option<&Input>, target: &Target) -> Self {
        let (rules, switches, table) = match input {
            Some(input) => {
                (Rules::of_input(input), Switches::of_input(input), Table::of_input(input))
            }
            None => {
                (Rules::builtin().clone(), Switches::builtin().clone(), Table::builtin().clone())
            }
        };
        // Without the port: other services of the site have other ports on the same host.
        let registry = target.prefix.registry();
        let host = registry.split(':').next().unwrap_or(registry).to_owned();
        Self { rules, switches, table, host }
    }

    /// The rules for images that operators have compiled in.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Finds settings that make a release connect to the outside by itself.
    pub(crate) fn find(&self, inspection: &Inspection) -> Vec<Finding> {
        // Hosts in the same domain as the registry count as the site's own: with registry.site.internal
        // also git.site.internal. A domain without a dot (`com`) would cover far too much.
        let domain = self.host.split_once('.').map(|(_, domain)| domain);
        let domain = domain.filter(|domain| domain.contains('.'));
        let is_beside = |host: &str, domain: &str| {
            host.strip_suffix(domain).is_some_and(|host| host.ends_with('.'))
        };
        let is_inside =
            |host: &str| host == self.host || domain.is_some_and(|domain| is_beside(host, domain));
        self.switches.find(inspection, &is_inside)
    }

    /// Turns off what can be turned off safely, and configures the runtimes to use the site. Both are
    /// added to the release's values, so later renders include them.
    pub(crate) fn keep(&self, release: &mut Release, site: &wiring::Offline) -> Result<Kept> {
        let offline = {
            let inspection = release.inspect(&self.rules)?;
            let findings = self.find(&inspection);
            let render = |overlay: Option<&str>| release.render(overlay);
            offline::turn_off(&findings, &inspection.effective, &render)
        };
        // The values before the next line are the user's own choice, which wiring respects; those added
        // here may be replaced.
        let user = release.values().clone();
        release.add_values(&offline.values)?;
        // The render with the switches off comes first: a feature that is turned off may remove the
        // containers that would have to be configured.
        let wiring = {
            let render = |overlay: Option<&str>| release.render(overlay);
            let request = wiring::Request {
                chart: release.chart(),
                user: release.values(),
                own: &user,
                offline: site,
                table: &self.table,
                switches: &self.switches,
            };
            wiring::wire(&request, &render).map_err(|error| release.refused(error))?
        };
        let effective = release.chart().effective(release.values());
        release.add_values(&wiring.overlay(&effective))?;
        Ok(Kept { offline, wiring })
    }
}
