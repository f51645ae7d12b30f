//! Finds values of a chart that enable connections to the internet: by the end of their path
//! (`analytics.reporting_enabled`), or because they are named like a known environment variable.

use serde_json::{Map, Value};
use types::input::rules::{PhoneHome, Switch, Variable};

use super::Finding;
use crate::inspect::Inspection;
use crate::path::{Path, Step};

/// Finds the switches that are not off. Values of a subchart that renders nothing are skipped.
pub(super) fn find(table: &PhoneHome, inspection: &Inspection) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(&inspection.effective, &Path::default(), &mut |path, value, siblings| {
        if inspection.is_off(path) {
            return;
        }
        let by_rule = |switch: &Switch| found(switch, path, value, siblings);
        let by_variable = |variable: &Variable| named(variable, path, value);
        let found = table.values.iter().find_map(by_rule);
        findings.extend(found.or_else(|| table.environment.iter().find_map(by_variable)));
    });
    findings
}

/// Calls `visit` with each value of a map, its path, and the map that it is in.
fn walk<'a>(
    value: &'a Value,
    path: &Path,
    visit: &mut impl FnMut(&Path, &'a Value, &'a Map<String, Value>),
) {
    // Keeps a crafted values file from exhausting the stack.
    const DEEPEST: usize = 64;
    if path.steps().len() > DEEPEST {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = path.key(key);
                visit(&path, value, map);
                walk(value, &path, visit);
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

/// Matches a value with a switch of the table; `None` if it is another value or is off already.
fn found(
    switch: &Switch,
    path: &Path,
    value: &Value,
    siblings: &Map<String, Value>,
) -> Option<Finding> {
    let keys: Vec<&str> = switch.path.split('.').collect();
    let (last, above) = keys.split_last()?;
    let (path, now, siblings) = match value {
        // The map that would contain the switch, without it: the program's default applies.
        Value::Object(map) if !above.is_empty() && ends_with(path, above) => {
            let now = switch.default.as_ref().filter(|_| !map.contains_key(*last))?;
            (path.key(*last), now, map)
        }
        Value::Object(_) | Value::Array(_) => return None,
        _ if !ends_with(path, &keys) => return None,
        unset if text(unset).is_empty() => (path.clone(), switch.default.as_ref()?, siblings),
        set => (path.clone(), set, siblings),
    };
    let is_outside = match switch.is.as_slice() {
        // A rule without a list of values: everything but the setting `off` enables it.
        [] => !switch.off.as_ref().is_some_and(|off| is_same(off, now)),
        some => some.iter().any(|value| is_same(value, now)),
    };
    (is_outside && switch.beside.iter().all(|key| siblings.contains_key(key))).then(|| {
        Finding::Value {
            off: switch.off.as_ref().map(|off| written_like(value, off)),
            safe: switch.safe,
            why: switch.why.clone(),
            path,
        }
    })
}

/// Matches a value that has the name of an environment variable: many charts copy such values into
/// the environment. `None` if its content prevents the connection already.
fn named(variable: &Variable, path: &Path, leaf: &Value) -> Option<Finding> {
    let is_named = matches!(path.steps().last(), Some(Step::Key(key)) if *key == variable.name);
    let is_scalar = !leaf.is_object() && !leaf.is_array();
    let off = Value::from(variable.off.as_str());
    (is_named && is_scalar && !super::environment::keeps_inside(variable, &text(leaf))).then(|| {
        Finding::Value { path: path.clone(), off: Some(off), safe: true, why: variable.why.clone() }
    })
}

/// Whether a path ends in these keys.
fn ends_with(path: &Path, keys: &[&str]) -> bool {
    let steps = path.steps();
    steps.len() >= keys.len()
        && steps[steps.len() - keys.len()..]
            .iter()
            .zip(keys)
            .all(|(step, key)| matches!(step, Step::Key(own) if own == key))
}

/// Whether two values are the same in any spelling: charts of Python programs write `False`, others
/// `"false"` or `false`.
fn is_same(a: &Value, b: &Value) -> bool {
    text(a).eq_ignore_ascii_case(&text(b))
}

/// The text of a value; empty for null.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Converts the setting to a string if the current value is one: a template or schema may require
/// it.
fn written_like(now: &Value, off: &Value) -> Value {
    if now.is_string() { Value::String(text(off)) } else { off.clone() }
}
