//! Guards: the switches that a chart needs set before it accepts other images.

use std::collections::BTreeSet;

use serde_json::Value;

use super::scopes::ChartScopes;
use crate::path::DocumentPath;
use crate::values;

/// The guards of a chart. Bitnami's charts fail with "unrecognized images" unless
/// `global.security.allowInsecureImages` is `true`.
pub(crate) fn find_guards(scopes: &ChartScopes, effective: &Value) -> Vec<DocumentPath> {
    let mut guards = BTreeSet::new();
    values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
        if path.last_key() == Some("allowInsecureImages") && leaf == &Value::Bool(false) {
            guards.insert(scopes.path_to_set(path));
        }
    });
    guards.into_iter().collect()
}

/// Opens the guards in an overlay.
pub(crate) fn open_guards(guards: &[DocumentPath], overlay: &mut Value, effective: &Value) {
    for guard in guards {
        values::set_value(overlay, guard, Value::Bool(true), effective);
    }
}
