//! Values of charts that do the wiring themselves: those that a rule knows by their path, and that
//! say something else.

use serde_json::Value;
use types::input::rules::with_fields;
use types::input::wiring::Setting as Rule;

use super::site::{Models, Offline};
use super::{Leftover, Setting, Table};
use crate::chart::Chart;
use crate::path::{Path, Step};
use crate::relocate::scopes::Scopes;

/// What rules find in the values of a chart.
pub(super) struct Found {
    pub(super) settings: Vec<Setting>,
    pub(super) leftovers: Vec<Leftover>,
}

/// The values that a rule sets. What a person set stays, and is told.
pub(super) fn find(
    table: &Table,
    offline: &Offline,
    chart: &Chart,
    user: &Value,
    effective: &Value,
) -> Found {
    let scopes = Scopes::new(chart, effective);
    let mut found = Found { settings: vec![], leftovers: vec![] };
    walk(effective, &Path::default(), &mut |parent, key, value, siblings| {
        let path = parent.key(key);
        for rule in &table.0.values {
            if !is_at(rule, &path) || !rule.beside.iter().all(|key| siblings.contains_key(key)) {
                continue;
            }
            if rule.below.as_ref().is_some_and(|word| !is_below(chart, parent, word)) {
                continue;
            }
            let Some(wanted) = wanted(rule, offline) else { continue };
            let is_unset = value.is_null() && matches!(&wanted, Value::String(s) if s.is_empty());
            // What is of another type is another thing, with the same name.
            let is_kin =
                value.is_null() || std::mem::discriminant(value) == std::mem::discriminant(&wanted);
            if *value == wanted || is_unset || !is_kin || is_empty_issuer(rule, value) {
                continue;
            }
            let path = scopes.own_path(&path);
            if path.find(user).is_some() {
                found.leftovers.push(Leftover {
                    place: format!("value {path}"),
                    what: format!(
                        "it is {value} by your own values and is kept; {wanted} is wanted: {}",
                        rule.why
                    ),
                    next: format!("take {path} out of your values, or see that it stays inside"),
                });
                return;
            }
            let setting = Setting { path, value: wanted, why: rule.why.clone() };
            if !found.settings.iter().any(|known| known.path == setting.path) {
                found.settings.push(setting);
            }
            return;
        }
    });
    found
}

/// An issuer that is not named is one that a chart does not use.
fn is_empty_issuer(rule: &Rule, value: &Value) -> bool {
    let asks = rule.set.as_str().is_some_and(|text| text.contains("{issuer}"));
    asks && (value.is_null() || value.as_str() == Some(""))
}

fn is_at(rule: &Rule, path: &Path) -> bool {
    let steps = path.steps();
    steps.len() >= rule.keys.len()
        && steps[steps.len() - rule.keys.len()..]
            .iter()
            .zip(&rule.keys)
            .all(|(step, key)| matches!(step, Step::Key(own) if own == key))
}

/// Whether a key of the path, or the name of the chart whose values they are, has a word in it.
fn is_below(chart: &Chart, path: &Path, word: &str) -> bool {
    let in_keys =
        path.steps().iter().any(|step| matches!(step, Step::Key(key) if key.contains(word)));
    let mut in_name = false;
    chart.each(&Path::default(), &mut |chart, scope| {
        in_name |= chart.name().contains(word) && scope.is_above(path);
    });
    in_keys || in_name
}

/// What a rule sets with what the site has; `None` where it has not got it.
fn wanted(rule: &Rule, offline: &Offline) -> Option<Value> {
    let Value::String(text) = &rule.set else {
        // A switch that goes with a place for models needs one with that layout.
        let needs = rule.layout != types::site::ModelLayout::default();
        return (!needs || place(rule, offline, "bucket").is_some()).then(|| rule.set.clone());
    };
    let field = |field: &str| match field {
        "issuer" => offline.issuer.clone(),
        _ => place(rule, offline, field),
    };
    with_fields(text, field).map(Value::String)
}

fn place(rule: &Rule, offline: &Offline, what: &str) -> Option<String> {
    offline.models.iter().find_map(|models| match (models, what) {
        (Models::Bucket { url, layout, .. }, "bucket") if *layout == rule.layout => {
            Some(url.clone())
        }
        (Models::Claim { claim, layout, namespace, .. }, "claim") if *layout == rule.layout => {
            let is_here = offline.namespace.as_ref().is_none_or(|own| own == namespace);
            is_here.then(|| claim.clone())
        }
        (Models::Depot { url }, "depot") => Some(url.clone()),
        _ => None,
    })
}

/// Calls `visit` with each value that stands under a key: its parent's path, its key, itself, and
/// the map that it is in.
pub(super) fn walk<'a>(
    value: &'a Value,
    path: &Path,
    visit: &mut impl FnMut(&Path, &str, &'a Value, &'a serde_json::Map<String, Value>),
) {
    // Values nest finitely; a hostile file is not followed without end.
    const DEEPEST: usize = 64;
    if path.steps().len() > DEEPEST {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                visit(path, key, value, map);
                walk(value, &path.key(key), visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &path.index(index), visit);
            }
        }
        _ => {}
    }
}
