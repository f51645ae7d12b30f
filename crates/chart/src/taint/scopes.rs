//! The chart and its sub-charts as owners of values: where the values of each are, which path a
//! `global` value really has, and what the schemas (`values.schema.json`) allow.
//!
//! Helm copies the globals of a parent into its sub-charts (helm.sh/docs/chart_template_guide,
//! "Subcharts and Global Values"), so `db.global.imageRegistry` in the merged values is set by
//! `global.imageRegistry` at the top.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::chart::HelmChart;
use crate::find::names;
use crate::path::{DocumentPath, PathStep};
use crate::template_values::{ITEM_FIELD, NESTED_VALUE, visit_matches};
use crate::values;

/// A chart and its sub-charts, by the paths of their values.
pub(crate) struct ChartScopes {
    charts: Vec<ChartScope>,
    /// The value of each global path; `None` if sub-charts have different values there.
    shared: BTreeMap<DocumentPath, Option<Value>>,
    /// Whether the top chart's schema allows `global` at all.
    takes_global: bool,
}

/// One chart: where its values are, its name, and its schema.
struct ChartScope {
    path: DocumentPath,
    name: String,
    schema: Option<Value>,
}

impl ChartScopes {
    /// Reads the scopes of a chart with its merged values.
    pub(crate) fn new(chart: &HelmChart, effective: &Value) -> Self {
        let mut charts = Vec::new();
        chart.visit_charts(&DocumentPath::default(), &mut |chart, path| {
            let (name, schema) = (chart.name().to_owned(), chart.schema.clone());
            charts.push(ChartScope { path: path.clone(), name, schema });
        });
        let mut scopes = Self { charts, shared: BTreeMap::new(), takes_global: true };
        let mut shared: BTreeMap<DocumentPath, Option<Value>> = BTreeMap::new();
        values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
            // Sub-charts may have different defaults for a global that the top chart does not set.
            // One value at the top would then replace all of them, so each keeps its own path.
            if let Some((_, global)) = scopes.split_global(path) {
                let known = shared.entry(global).or_insert_with(|| Some(leaf.clone()));
                if known.as_ref() != Some(leaf) {
                    *known = None;
                }
            }
        });
        scopes.shared = shared;
        scopes.takes_global = scopes.allows_value(&DocumentPath::default().key("global"));
        scopes
    }

    /// The path to set in an overlay for a leaf of the merged values: the global at the top, if all
    /// charts have the same value there; else the leaf's own path.
    pub(crate) fn path_to_set(&self, path: &DocumentPath) -> DocumentPath {
        match self.split_global(path) {
            Some((scope, global)) if !scope.steps().is_empty() && self.takes_global => {
                let is_same = matches!(self.shared.get(&global), Some(Some(_)));
                if is_same { global } else { path.clone() }
            }
            _ => path.clone(),
        }
    }

    /// The paths of values with a key that is `wanted`, that templates read, that no values file
    /// sets, and that the schemas allow: `global.imageRegistry` of many charts is one.
    pub(crate) fn find_unset_values(
        &self,
        chart: &HelmChart,
        effective: &Value,
        wanted: fn(&str) -> bool,
    ) -> Vec<DocumentPath> {
        let mut paths = BTreeSet::new();
        let mut maps = BTreeSet::new();
        visit_matches(chart, &NESTED_VALUE, &mut |keys, scope| {
            let path = scope.keys(&keys.replace(')', ""));
            maps.insert(path.parent());
            if !path.last_key().is_some_and(wanted) {
                return;
            }
            let path = match self.split_global(&path) {
                Some((_, global)) if self.takes_global => global,
                _ => path,
            };
            if is_free(&path, effective) && self.allows_value(&path) {
                paths.insert(path);
            }
        });
        // `image.tag` is read as well: `image` is a map, and no text.
        paths.into_iter().filter(|path| !maps.contains(path)).collect()
    }

    /// The paths of fields with a key that is `wanted`, that templates read of list items, and that items
    /// which name an image do not have: `models[0].imagePullSecret`.
    pub(crate) fn find_unset_item_fields(
        &self,
        chart: &HelmChart,
        effective: &Value,
        wanted: fn(&str) -> bool,
    ) -> Vec<DocumentPath> {
        // A longer list is data and not a list of workloads.
        const MOST: usize = 32;
        let mut fields: BTreeMap<DocumentPath, BTreeSet<&str>> = BTreeMap::new();
        visit_matches(chart, &ITEM_FIELD, &mut |key, scope| {
            if wanted(key) {
                fields.entry(scope.clone()).or_default().insert(key);
            }
        });
        let mut paths = Vec::new();
        for (scope, keys) in &fields {
            let Some(own) = scope.find_value(effective) else { continue };
            values::visit_entries(own, scope, &mut |list, value, _| {
                let items = value.as_array().filter(|items| items.len() <= MOST);
                for (index, item) in items.into_iter().flatten().enumerate() {
                    let map = item.as_object();
                    if !map.is_some_and(|map| map.keys().any(|key| names::is_name_key(key))) {
                        continue;
                    }
                    let free = keys.iter().filter(|key| item.get(**key).is_none());
                    let free = free.map(|key| list.index(index).key(*key));
                    paths.extend(free.filter(|path| self.allows_value(path)));
                }
            });
        }
        paths
    }

    /// The paths that `.Values.<own>` in a template may mean: one for each chart, as it is not
    /// known which chart's template it was.
    pub(crate) fn paths_in_all_charts<'a>(
        &'a self,
        own: &'a DocumentPath,
    ) -> impl Iterator<Item = DocumentPath> + 'a {
        self.charts.iter().map(|chart| chart.path.join(own))
    }

    /// Whether the schemas of all charts above a path allow a value there.
    pub(crate) fn allows_value(&self, path: &DocumentPath) -> bool {
        self.charts.iter().all(|chart| match (&chart.schema, path.steps()) {
            (Some(schema), steps) if chart.path.is_above(path) => {
                // Helm checks a sub-chart's schema with the globals already copied in, which a
                // strict schema of its own then has to allow anyway.
                let is_handed_down = !chart.path.steps().is_empty()
                    && steps.get(chart.path.steps().len()) == Some(&PathStep::Key("global".into()));
                is_handed_down || does_schema_allow(schema, &steps[chart.path.steps().len()..])
            }
            _ => true,
        })
    }

    /// The schemas' descriptions of the value at a path.
    pub(crate) fn schemas_of<'a>(
        &'a self,
        path: &'a DocumentPath,
    ) -> impl Iterator<Item = &'a Value> {
        let above = self.charts.iter().filter(|chart| chart.path.is_above(path));
        above.filter_map(|chart| {
            let root = chart.schema.as_ref()?;
            path.steps()[chart.path.steps().len()..].iter().try_fold(root, |schema, step| {
                let schema = resolve_schema_ref(root, schema)?;
                match step {
                    PathStep::Key(key) => schema.get("properties")?.get(key),
                    PathStep::Index(_) => schema.get("items"),
                    PathStep::Inside(_) => None,
                }
            })
        })
    }

    /// The line of helm's message that complains about the value at a path, if the message is a
    /// schema's. Below a line with the name of the chart whose schema it is, helm 3 writes
    /// `- image.registry: …` or `- image: Additional property registry …`; helm 3.18 and newer and
    /// helm 4, which have another validator, write `- at '/image/registry': …`.
    pub(crate) fn find_message_line_about<'m>(
        &self,
        message: &'m str,
        path: &DocumentPath,
    ) -> Option<&'m str> {
        let mut chart = "";
        message.lines().map(str::trim).find(|line| {
            if let Some(name) = line.strip_suffix(':')
                && !name.contains(' ')
            {
                chart = name;
                return false;
            }
            let Some(rest) = line.strip_prefix("- ") else { return false };
            self.charts.iter().filter(|own| own.name == chart && own.path.is_above(path)).any(
                |own| {
                    let steps = &path.steps()[own.path.steps().len()..];
                    is_message_about(rest, steps)
                },
            )
        })
    }

    /// Splits a path at `global`: the chart's path, and the rest from `global` on. `None` if the
    /// path has no `global` directly below a chart.
    fn split_global(&self, path: &DocumentPath) -> Option<(DocumentPath, DocumentPath)> {
        let depth = path.steps().iter().position(|step| *step == PathStep::Key("global".into()))?;
        let scope: DocumentPath = path.steps()[..depth].iter().cloned().collect();
        let global = path.steps()[depth..].iter().cloned().collect();
        self.charts.iter().any(|chart| chart.path == scope).then_some((scope, global))
    }
}

/// Whether a value is not set and can be: everything above it is a map, or not set either, since
/// helm cannot set a key in a text.
fn is_free(path: &DocumentPath, effective: &Value) -> bool {
    let mut above = path.parent();
    while !above.steps().is_empty() {
        match above.find_value(effective) {
            None | Some(Value::Null) => above = above.parent(),
            Some(value) => return value.is_object() && path.find_value(effective).is_none(),
        }
    }
    path.find_value(effective).is_none()
}

/// Whether a line of a schema's complaint is about the value at these steps, or about its key being
/// not allowed.
fn is_message_about(line: &str, steps: &[PathStep]) -> bool {
    let names: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            PathStep::Key(key) => Some(key.clone()),
            PathStep::Index(index) => Some(index.to_string()),
            PathStep::Inside(_) => None,
        })
        .collect();
    let starts = |names: &[String]| {
        // gojsonschema (helm 3 up to 3.17) calls the document itself `(root)`.
        let dotted = if names.is_empty() { "(root)".to_owned() } else { names.join(".") };
        let pointer = names.iter().fold(String::new(), |all, name| all + "/" + name);
        line.strip_prefix(&format!("{dotted}: "))
            .or_else(|| line.strip_prefix(&format!("at '{pointer}': ")))
    };
    if starts(&names).is_some() {
        return true;
    }
    let Some((last, above)) = names.split_last() else { return false };
    starts(above).is_some_and(|rest| {
        rest.to_lowercase().contains("additional propert")
            && rest.split([' ', '\'', '"', ',']).any(|word| word == last)
    })
}

/// Whether a schema allows a value at these steps. What it does not clearly forbid is allowed: helm
/// has the last word when it renders.
fn does_schema_allow(root: &Value, steps: &[PathStep]) -> bool {
    let mut schema = root;
    for step in steps {
        let PathStep::Key(key) = step else { return true };
        match resolve_schema_ref(root, schema) {
            Some(found) => schema = found,
            None => return true,
        }
        if let Some(inner) = schema.get("properties").and_then(|known| known.get(key)) {
            schema = inner;
            continue;
        }
        match schema.get("additionalProperties") {
            // Whether a pattern fits the key would need its regular expression dialect: helm
            // decides.
            _ if schema.get("patternProperties").is_some() => return true,
            Some(Value::Bool(false)) => return false,
            Some(inner @ Value::Object(_)) => schema = inner,
            _ => return true,
        }
    }
    true
}

/// The schema that a `$ref` points to, or the schema itself; `None` if it is in another file.
fn resolve_schema_ref<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(at) => at.strip_prefix('#').and_then(|pointer| root.pointer(pointer)),
        None => Some(schema),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn scopes_with_schema(schema: Value) -> ChartScopes {
        let files = [
            ("Chart.yaml", "name: top\nversion: 1.0.0\n".to_owned()),
            ("values.schema.json", schema.to_string()),
            ("charts/db/Chart.yaml", "name: db\nversion: 1.0.0\n".to_owned()),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
        let chart = HelmChart::read(files).unwrap();
        ChartScopes::new(&chart, &chart.effective_values(&json!({})))
    }

    fn parse_dotted_path(dotted: &str) -> DocumentPath {
        DocumentPath::default().keys(dotted)
    }

    #[test]
    fn a_strict_schema_lets_in_only_what_it_knows() {
        let scopes = scopes_with_schema(json!({
            "additionalProperties": false,
            "properties": {
                "image": {"$ref": "#/$defs/image"},
                "free": {"type": "object"},
                "db": {"additionalProperties": false, "properties": {"tag": {}}},
            },
            "$defs": {"image": {"additionalProperties": false, "properties": {"registry": {}}}},
        }));
        let all = ["image.registry", "image.hub", "free.hub", "global.registry", "db.registry"];
        assert_eq!(
            all.map(|p| scopes.allows_value(&parse_dotted_path(p))),
            [true, false, true, false, false]
        );
    }

    #[test]
    fn the_line_of_a_schema_s_complaint_is_found_in_the_words_of_old_and_new_helm() {
        let scopes = scopes_with_schema(json!({}));
        for message in [
            "values don't meet the specifications of the schema(s)\ntop:\n- image.registry: Does not match",
            "values don't meet\ntop:\n- at '/image/registry': 'x' does not match pattern",
            "values don't meet\ntop:\n- image: Additional property registry is not allowed",
            "values don't meet\ntop:\n- at '/image': additional properties 'registry' not allowed",
        ] {
            assert!(
                scopes
                    .find_message_line_about(message, &parse_dotted_path("image.registry"))
                    .is_some(),
                "{message}"
            );
            assert!(
                scopes
                    .find_message_line_about(message, &parse_dotted_path("image.repository"))
                    .is_none(),
                "{message}"
            );
            assert!(
                scopes
                    .find_message_line_about(message, &parse_dotted_path("db.image.registry"))
                    .is_none(),
                "{message}"
            );
        }
        let below = "x\ndb:\n- at '/image/registry': no";
        assert!(
            scopes
                .find_message_line_about(below, &parse_dotted_path("db.image.registry"))
                .is_some()
        );
    }
}
