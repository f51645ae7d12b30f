//! Sets values of charts that a rule knows by their keys and that configure something for offline
//! use themselves: a switch for a job that downloads models, or the name of an existing claim.

use serde_json::Value;
use types::input::rules::fill_fields;
use types::input::wiring::ValueRule as Rule;

use super::offline_wiring::WiringLeftover;
use super::site::{ModelSource, SiteServices};
use super::table::WiringTable;
use crate::chart::HelmChart;
use crate::overlay::OverlaySetting;
use crate::path::{DocumentPath, PathStep};
use crate::taint::scopes::ChartScopes;
use crate::values;

/// What rules find in the values of a chart: values to set, and those that the user has to change.
pub(super) struct SettingFindings {
    pub(super) settings: Vec<OverlaySetting>,
    pub(super) leftovers: Vec<WiringLeftover>,
}

/// Finds the values that rules set. A value that the user set (`user`) is kept and becomes a
/// leftover.
pub(super) fn find_settings(
    table: &WiringTable,
    offline: &SiteServices,
    chart: &HelmChart,
    user: &Value,
    effective: &Value,
) -> SettingFindings {
    let scopes = ChartScopes::new(chart, effective);
    let mut found = SettingFindings { settings: vec![], leftovers: vec![] };
    values::visit_entries(effective, &DocumentPath::default(), &mut |path, value, siblings| {
        for rule in &table.0.values {
            if !ends_in_rule_keys(rule, path)
                || !rule.beside.iter().all(|key| siblings.contains_key(key))
            {
                continue;
            }
            if rule
                .below
                .as_ref()
                .is_some_and(|word| !has_word_in_path(chart, &path.parent(), word))
            {
                continue;
            }
            let Some(wanted) = value_for_rule(rule, offline) else { continue };
            let is_unset = value.is_null() && matches!(&wanted, Value::String(s) if s.is_empty());
            // A value of another type only has the same name: `enabled` as a map, say.
            let is_kin =
                value.is_null() || std::mem::discriminant(value) == std::mem::discriminant(&wanted);
            if *value == wanted || is_unset || !is_kin || is_empty_issuer(rule, value) {
                continue;
            }
            // Of the values as the user wrote them: a chart's defaults may be changed.
            let path = scopes.path_to_set(path);
            if path.find_value(user).is_some() {
                found.leftovers.push(WiringLeftover {
                    place: format!("value {path}"),
                    what: format!(
                        "your values set it to {value}, which is kept; it should be {wanted}: {}",
                        rule.why
                    ),
                    next: format!("remove {path} from your values, or make sure that it works without the internet"),
                });
                return;
            }
            let setting = OverlaySetting { path, value: wanted, why: rule.why.clone() };
            if !found.settings.iter().any(|known| known.path == setting.path) {
                found.settings.push(setting);
            }
            return;
        }
    });
    found
}

/// Whether a rule sets an issuer and the value is empty: a chart that names no issuer uses none.
fn is_empty_issuer(rule: &Rule, value: &Value) -> bool {
    let asks = rule.set.as_str().is_some_and(|text| text.contains("{issuer}"));
    asks && (value.is_null() || value.as_str() == Some(""))
}

/// Whether a path ends in the keys of a rule.
fn ends_in_rule_keys(rule: &Rule, path: &DocumentPath) -> bool {
    let steps = path.steps();
    steps.len() >= rule.keys.len()
        && steps[steps.len() - rule.keys.len()..]
            .iter()
            .zip(&rule.keys)
            .all(|(step, key)| matches!(step, PathStep::Key(own) if own == key))
}

/// Whether a key of the path has the word in it, or the name of the chart that the values belong
/// to.
fn has_word_in_path(chart: &HelmChart, path: &DocumentPath, word: &str) -> bool {
    let in_keys =
        path.steps().iter().any(|step| matches!(step, PathStep::Key(key) if key.contains(word)));
    let mut in_name = false;
    chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
        in_name |= chart.name().contains(word) && scope.is_above(path);
    });
    in_keys || in_name
}

/// The value that a rule sets, with its fields (`{claim}`, `{issuer}`) filled in; `None` if the
/// site does not have what the rule needs.
fn value_for_rule(rule: &Rule, offline: &SiteServices) -> Option<Value> {
    let Value::String(text) = &rule.set else {
        // A switch for models in a bucket of a certain layout needs such a bucket.
        let needs = rule.layout != types::site::ModelLayout::default();
        return (!needs || source_for_field(rule, offline, "bucket").is_some())
            .then(|| rule.set.clone());
    };
    let field = |field: &str| match field {
        "issuer" => offline.issuer.clone(),
        _ => source_for_field(rule, offline, field),
    };
    fill_fields(text, field).map(Value::String)
}

/// What fills a field of a rule: the URL of a bucket or depot, or a claim's name, of the first
/// model source that fits.
fn source_for_field(rule: &Rule, offline: &SiteServices, what: &str) -> Option<String> {
    offline.models.iter().find_map(|models| match (models, what) {
        (ModelSource::Bucket { url, layout, .. }, "bucket") if *layout == rule.layout => {
            Some(url.clone())
        }
        (ModelSource::Claim { claim, layout, namespace, .. }, "claim")
            if *layout == rule.layout =>
        {
            let is_here = offline.namespace.as_ref().is_none_or(|own| own == namespace);
            is_here.then(|| claim.clone())
        }
        (ModelSource::Depot { url }, "depot") => Some(url.clone()),
        _ => None,
    })
}
