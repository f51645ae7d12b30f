//! What the verbs that prepare a release do so that it stays inside: what reaches outside by itself
//! is turned off, and its runtimes are wired to the site (`chart::offline`, `chart::wiring`).

use chart::Rules;
use chart::inspect::Inspection;
use chart::offline::{self, Offline};
use chart::phone_home::{Finding, Switches};
use chart::relocate::Target;
use chart::wiring::{self, Setting, Table, Wiring};
use resolve::Release;
use types::input::Input;

use crate::error::Result;

/// The tables of rules, and what the site has.
pub(crate) struct Inside {
    rules: Rules,
    switches: Switches,
    table: Table,
    host: String,
}

/// A release that stays inside.
pub(crate) struct Kept {
    /// What was turned off.
    pub(crate) offline: Offline,
    /// What its runtimes are told.
    pub(crate) wiring: Wiring,
}

impl Kept {
    /// All values that were set: later renders of the release come with them.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let switches = self.offline.off.iter().map(Setting::from);
        switches.chain(self.wiring.settings.iter().cloned()).collect()
    }
}

impl Inside {
    /// The rules of Gantry with those of the input on top.
    pub(crate) fn new(input: Option<&Input>, target: &Target) -> Self {
        let (rules, switches, table) = match input {
            Some(input) => {
                (Rules::of_input(input), Switches::of_input(input), Table::of_input(input))
            }
            None => {
                (Rules::builtin().clone(), Switches::builtin().clone(), Table::builtin().clone())
            }
        };
        let registry = target.prefix.registry();
        let host = registry.split(':').next().unwrap_or(registry).to_owned();
        Self { rules, switches, table, host }
    }

    /// What tells images that operators have compiled in.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What reaches outside by itself.
    pub(crate) fn find(&self, inspection: &Inspection) -> Vec<Finding> {
        // The site's other services stand beside its registry.
        let domain = self.host.split_once('.').map(|(_, domain)| domain);
        let domain = domain.filter(|domain| domain.contains('.'));
        let is_beside = |host: &str, domain: &str| {
            host.strip_suffix(domain).is_some_and(|host| host.ends_with('.'))
        };
        let is_inside =
            |host: &str| host == self.host || domain.is_some_and(|domain| is_beside(host, domain));
        self.switches.find(inspection, &is_inside)
    }

    /// Turns off what is safe to turn off and wires the runtimes to the site; later renders of the
    /// release come with both.
    pub(crate) fn keep(&self, release: &mut Release, site: &wiring::Offline) -> Result<Kept> {
        let offline = {
            let inspection = release.inspect(&self.rules)?;
            let findings = self.find(&inspection);
            let render = |overlay: Option<&str>| release.render(overlay);
            offline::turn_off(&findings, &inspection.effective, &render)
        };
        // What is added here is no choice of the user's, who may have set the same.
        let user = release.values().clone();
        release.add_values(&offline.values)?;
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
