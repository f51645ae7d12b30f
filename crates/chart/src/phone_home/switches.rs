//! Finds values of a chart that enable connections to the internet: by the end of their path
//! (`analytics.reporting_enabled`), or because they are named like a known environment variable.

use serde_json::{Map, Value};
use types::input::rules::{PhoneHome, PhoneHomeSwitch, PhoneHomeVariable};

use super::finding::PhoneHomeFinding;
use crate::inspect::Inspection;
use crate::path::{DocumentPath, PathStep};
use crate::values;

/// Finds the switches that are not off. Values of a subchart that renders nothing are skipped.
pub(super) fn find_active_switches(
    table: &PhoneHome,
    inspection: &Inspection,
) -> Vec<PhoneHomeFinding> {
    let mut findings = Vec::new();
    values::visit_entries(
        &inspection.effective,
        &DocumentPath::default(),
        &mut |path, value, siblings| {
            if inspection.is_inactive(path) {
                return;
            }
            let by_rule = |switch: &PhoneHomeSwitch| match_switch(switch, path, value, siblings);
            let by_variable = |variable: &PhoneHomeVariable| match_variable(variable, path, value);
            let found = table.values.iter().find_map(by_rule);
            findings.extend(found.or_else(|| table.environment.iter().find_map(by_variable)));
        },
    );
    findings
}

/// Matches a value with a switch of the table; `None` if it is another value or is off already.
fn match_switch(
    switch: &PhoneHomeSwitch,
    path: &DocumentPath,
    value: &Value,
    siblings: &Map<String, Value>,
) -> Option<PhoneHomeFinding> {
    let keys: Vec<&str> = switch.path.split('.').collect();
    let (last, above) = keys.split_last()?;
    let (path, now, siblings) = match value {
        // The map that would contain the switch, without it: the program's default applies.
        Value::Object(map) if !above.is_empty() && path_ends_with(path, above) => {
            let now = switch.default.as_ref().filter(|_| !map.contains_key(*last))?;
            (path.key(*last), now, map)
        }
        Value::Object(_) | Value::Array(_) => return None,
        _ if !path_ends_with(path, &keys) => return None,
        unset if value_text(unset).is_empty() => (path.clone(), switch.default.as_ref()?, siblings),
        set => (path.clone(), set, siblings),
    };
    let is_outside = match switch.is.as_slice() {
        // A rule without a list of values: everything but the setting `off` enables it.
        [] => !switch.off.as_ref().is_some_and(|off| is_same_value(off, now)),
        some => some.iter().any(|value| is_same_value(value, now)),
    };
    (is_outside && switch.beside.iter().all(|key| siblings.contains_key(key))).then(|| {
        PhoneHomeFinding::Value {
            off: switch.off.as_ref().map(|off| convert_like(value, off)),
            safe: switch.safe,
            why: switch.why.clone(),
            path,
        }
    })
}

/// Matches a value that has the name of an environment variable: many charts copy such values into
/// the environment. `None` if its content prevents the connection already.
fn match_variable(
    variable: &PhoneHomeVariable,
    path: &DocumentPath,
    leaf: &Value,
) -> Option<PhoneHomeFinding> {
    let is_named = matches!(path.steps().last(), Some(PathStep::Key(key)) if *key == variable.name);
    let is_scalar = !leaf.is_object() && !leaf.is_array();
    let off = Value::from(variable.off.as_str());
    (is_named && is_scalar && !super::environment::keeps_inside(variable, &value_text(leaf))).then(
        || PhoneHomeFinding::Value {
            path: path.clone(),
            off: Some(off),
            safe: true,
            why: variable.why.clone(),
        },
    )
}

/// Whether a path ends in these keys.
fn path_ends_with(path: &DocumentPath, keys: &[&str]) -> bool {
    let steps = path.steps();
    steps.len() >= keys.len()
        && steps[steps.len() - keys.len()..]
            .iter()
            .zip(keys)
            .all(|(step, key)| matches!(step, PathStep::Key(own) if own == key))
}

/// Whether two values are the same in any spelling: charts of Python programs write `False`, others
/// `"false"` or `false`.
fn is_same_value(a: &Value, b: &Value) -> bool {
    value_text(a).eq_ignore_ascii_case(&value_text(b))
}

/// The text of a value; empty for null.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Converts the setting to a string if the current value is one: a template or schema may require
/// it.
fn convert_like(now: &Value, off: &Value) -> Value {
    if now.is_string() { Value::String(value_text(off)) } else { off.clone() }
}
