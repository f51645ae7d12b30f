//! The rules for the offline configuration: Gantry's own in `rules/wiring.yaml`, and the user's in
//! `gantry.yaml` on top. `docs/formats/rules.md` describes the format.

use std::sync::OnceLock;

use types::input::Input;
use types::input::wiring;

use crate::{Error, Result};

/// The rules for runtimes, CAs, values and claims.
#[derive(Debug, Clone, Default)]
pub struct WiringTable(pub(super) wiring::WiringRules);

impl WiringTable {
    /// The rules that come with Gantry.
    pub fn builtin() -> &'static Self {
        static TABLE: OnceLock<WiringTable> = OnceLock::new();
        TABLE.get_or_init(|| {
            let text = include_str!("../../../../rules/wiring.yaml");
            // A test reads the table; a broken one cannot be built.
            Self::read("rules/wiring.yaml", text).unwrap_or_default()
        })
    }

    /// Parses rules in the format of `rules/wiring.yaml`. `name` is the file's name in errors.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        Ok(Self(types::yaml::read_document(name, text).map_err(Error::Document)?))
    }

    /// The built-in rules with those of a `gantry.yaml` on top.
    pub fn from_input(input: &Input) -> Self {
        Self::builtin().with_own_rules(&input.wiring)
    }

    /// These rules with the user's `own` on top: those are tried first, and one with the name of a
    /// built-in rule replaces it.
    #[must_use]
    pub fn with_own_rules(&self, own: &wiring::WiringRules) -> Self {
        let mut all = own.clone();
        let known =
            self.0.runtimes.iter().filter(|r| own.runtimes.iter().all(|o| o.name != r.name));
        all.runtimes.extend(known.cloned());
        let known = self.0.trust.iter().filter(|t| own.trust.iter().all(|o| o.name != t.name));
        all.trust.extend(known.cloned());
        let known = self.0.values.iter().filter(|v| own.values.iter().all(|o| o.name != v.name));
        all.values.extend(known.cloned());
        all.claims.extend(self.0.claims.iter().cloned());
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_built_in_table_is_read_whole_and_one_s_own_rules_are_asked_first() {
        let text = include_str!("../../../../rules/wiring.yaml");
        let table = WiringTable::read("rules/wiring.yaml", text).unwrap();
        let own =
            "runtimes: [{name: vllm, images: [mine], why: w}, {name: x, images: [x], why: w}]\n";
        let all = table.with_own_rules(&WiringTable::read("own", own).unwrap().0);
        let names: Vec<&str> = all.0.runtimes.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names[..3], ["vllm", "x", "sie"]);
        assert_eq!(names.iter().filter(|name| **name == "vllm").count(), 1);
    }
}
