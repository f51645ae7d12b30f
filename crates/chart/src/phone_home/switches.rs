//! Values of a chart that turn something off, by the end of their path, and values that carry the
//! name of a variable that would.

use serde_json::{Map, Value};
use types::input::rules::{PhoneHome, Switch, Variable};

use super::Finding;
use crate::inspect::Inspection;
use crate::path::{Path, Step};

/// Finds the values that are not off. Values of a dependency that renders nothing are passed over.
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

/// Calls `visit` with each value and the map that it stands in.
fn walk<'a>(
    value: &'a Value,
    path: &Path,
    visit: &mut impl FnMut(&Path, &'a Value, &'a Map<String, Value>),
) {
    // Values nest finitely; a hostile file is not followed without end.
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

fn found(
    switch: &Switch,
    path: &Path,
    value: &Value,
    siblings: &Map<String, Value>,
) -> Option<Finding> {
    let keys: Vec<&str> = switch.path.split('.').collect();
    let (last, above) = keys.split_last()?;
    let (path, now, siblings) = match value {
        // The map that would hold it does not.
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

/// A value with the name of a variable that would keep a program inside, and another content.
fn named(variable: &Variable, path: &Path, leaf: &Value) -> Option<Finding> {
    let is_named = matches!(path.steps().last(), Some(Step::Key(key)) if *key == variable.name);
    let is_scalar = !leaf.is_object() && !leaf.is_array();
    let off = Value::from(variable.off.as_str());
    (is_named && is_scalar && !super::environment::keeps_inside(variable, &text(leaf))).then(|| {
        Finding::Value { path: path.clone(), off: Some(off), safe: true, why: variable.why.clone() }
    })
}

fn ends_with(path: &Path, keys: &[&str]) -> bool {
    let steps = path.steps();
    steps.len() >= keys.len()
        && steps[steps.len() - keys.len()..]
            .iter()
            .zip(keys)
            .all(|(step, key)| matches!(step, Step::Key(own) if own == key))
}

/// Python's charts write `False`, others `"false"`.
fn is_same(a: &Value, b: &Value) -> bool {
    text(a).eq_ignore_ascii_case(&text(b))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A chart that has a text there may demand one.
fn written_like(now: &Value, off: &Value) -> Value {
    if now.is_string() { Value::String(text(off)) } else { off.clone() }
}
