//! Guards: the switches that a chart needs set before it accepts other images.

use std::collections::BTreeSet;

use serde_json::Value;

use super::scopes::ChartScopes;
use crate::HelmChart;
use crate::path::DocumentPath;
use crate::values;

/// The guards of a chart. Bitnami's charts fail with "unrecognized images" unless
/// `global.security.allowInsecureImages` is `true`. A chart that has the value and whose templates do
/// not ask for it has no guard.
pub(crate) fn find_guards(
    chart: &HelmChart,
    scopes: &ChartScopes,
    effective: &Value,
) -> Vec<DocumentPath> {
    // The test itself is `common.errors.insecureImages` of a library, which asks only where a chart
    // includes it.
    const WORDS: &[&str] = &["allowInsecureImages", "insecureImages"];
    let mut guards = BTreeSet::new();
    let mut is_asked = false;
    chart.visit_charts(&DocumentPath::default(), &mut |chart, _| {
        let is_library = chart.metadata.get("type").and_then(Value::as_str) == Some("library");
        let mut texts = chart.templates.values();
        is_asked |= !is_library && texts.any(|text| WORDS.iter().any(|word| text.contains(word)));
    });
    if !is_asked {
        return vec![];
    }
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
