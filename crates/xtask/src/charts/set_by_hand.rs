//! Sets the values of a chart by hand, one after the other, and looks at what helm renders. It knows
//! nothing of how the chart crate finds values: it tries all that there are, and all that the
//! templates name and no file sets.

use std::collections::BTreeSet;

use chart::{HelmChart, RenderError, values};
use regex::Regex;
use serde_json::{Map, Value};

/// Values that are set together at first; the render is searched again for each half where they
/// show something.
const TOGETHER: usize = 40;
/// Keys that a map of an image may lack, and that a helper reads without naming the value.
const MISSING: &[&str] = &["registry", "repository", "name", "image", "hub"];
/// Global values that charts read.
const GLOBAL: &[&str] =
    &["global.imageRegistry", "global.image.registry", "global.registry", "global.hub"];

/// The path of a value: keys, and numbers of list items.
pub(super) type ValuePath = Vec<String>;

/// A chart whose values are set by hand, on top of an overlay.
pub(super) struct ChartByHand<'a> {
    render: &'a (dyn Fn(Option<&str>) -> Result<String, RenderError> + Sync),
    overlay: Value,
    effective: Value,
    paths: Vec<ValuePath>,
}

impl<'a> ChartByHand<'a> {
    /// Lists the values of a chart with the user's values and an overlay.
    pub(super) fn new(
        chart: &HelmChart,
        user: &Value,
        overlay: &str,
        render: &'a (dyn Fn(Option<&str>) -> Result<String, RenderError> + Sync),
    ) -> Result<Self, String> {
        let overlay = values::read_values("the overlay", overlay).map_err(|e| e.to_string())?;
        let mut all = user.clone();
        values::merge_values(&mut all, &overlay);
        let effective = chart.effective_values(&all);
        let paths = list_paths(chart, &effective)?;
        Ok(Self { render, overlay, effective, paths })
    }

    /// All values that can be set.
    pub(super) fn paths(&self) -> &[ValuePath] {
        &self.paths
    }

    /// Whether a value is not set, or empty.
    pub(super) fn is_empty(&self, path: &ValuePath) -> bool {
        match find_value(&self.effective, path) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        }
    }

    /// The text of a value now; empty if it is not set.
    pub(super) fn text(&self, path: &ValuePath) -> &str {
        find_value(&self.effective, path).and_then(Value::as_str).unwrap_or_default()
    }

    /// What is rendered with these values; `None` if helm refuses them.
    pub(super) fn render(&self, values: &[(&ValuePath, Value)]) -> Option<String> {
        let mut overlay = self.overlay.clone();
        for (path, value) in values {
            set_value(&mut overlay, Some(&self.effective), path, value.clone());
        }
        (self.render)(Some(&overlay.to_string())).ok()
    }

    /// The values that show something in the render when they get the value of `with`, with what is
    /// rendered with each alone.
    pub(super) fn find_values<'p>(
        &self,
        paths: &[&'p ValuePath],
        with: &Value,
        shows: &dyn Fn(&str) -> bool,
    ) -> Vec<(&'p ValuePath, String)> {
        let mut open: Vec<Vec<&'p ValuePath>> =
            paths.chunks(TOGETHER).map(<[&ValuePath]>::to_vec).collect();
        let mut found = Vec::new();
        while let Some(part) = open.pop() {
            let set: Vec<(&ValuePath, Value)> =
                part.iter().map(|path| (*path, with.clone())).collect();
            let stream = self.render(&set);
            match (stream, part.as_slice()) {
                (Some(stream), _) if !shows(&stream) => {}
                (Some(stream), [path]) => found.push((*path, stream)),
                // Helm refuses this value.
                (None, [_]) => {}
                _ => {
                    let (one, other) = part.split_at(part.len() / 2);
                    open.extend([one.to_vec(), other.to_vec()]);
                }
            }
        }
        found
    }
}

/// The format_path form of a path.
pub(super) fn format_path(path: &ValuePath) -> String {
    path.join(".")
}

/// The values that are texts or empty, and those that only the templates name.
fn list_paths(chart: &HelmChart, effective: &Value) -> Result<Vec<ValuePath>, String> {
    let mut paths = BTreeSet::new();
    add_leaves(effective, &mut vec![], &mut paths);
    let regex = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
    let patterns = Patterns {
        named: regex(r"\.Values\.([A-Za-z0-9_]+(?:\)*\.[A-Za-z0-9_]+)*)")?,
        field: regex(r"\$[A-Za-z_]\w*\.(\w*(?:[sS]ecret|[iI]mage|registry|repository)\w*)")?,
    };
    add_named(chart, &patterns, &[], effective, &mut paths);
    for global in GLOBAL {
        paths.insert(global.split('.').map(str::to_owned).collect());
    }
    // Helm hands the globals of the chart down to its sub-charts, over their own.
    let is_handed_down = |path: &ValuePath| {
        let at = path.iter().position(|key| key == "global");
        at.is_some_and(|at| at > 0 && find_value(effective, &path[at..]).is_some())
    };
    Ok(paths
        .into_iter()
        .filter(|path| !is_handed_down(path) && can_be_set(effective, path))
        .collect())
}

fn add_leaves(value: &Value, path: &mut ValuePath, paths: &mut BTreeSet<ValuePath>) {
    let mut step = |key: String, value: &Value, paths: &mut BTreeSet<ValuePath>| {
        path.push(key);
        add_leaves(value, path, paths);
        path.pop();
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                step(key.clone(), value, paths);
            }
            if is_image_map(map) {
                for key in MISSING.iter().filter(|key| !map.contains_key(**key)) {
                    let path = path.iter().cloned().chain([(*key).to_owned()]);
                    paths.insert(path.collect());
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                step(index.to_string(), value, paths);
            }
            // An empty list may be one of pull secrets.
            if items.is_empty() {
                paths.insert(path.clone());
            }
        }
        Value::String(_) | Value::Null => {
            paths.insert(path.clone());
        }
        _ => {}
    }
}

fn is_image_map(map: &Map<String, Value>) -> bool {
    ["tag", "repository", "registry", "pullPolicy"].iter().any(|key| map.contains_key(*key))
}

/// How templates name values.
struct Patterns {
    named: Regex,
    field: Regex,
}

/// Adds the values that the templates name and no file sets.
fn add_named(
    chart: &HelmChart,
    patterns: &Patterns,
    scope: &[String],
    effective: &Value,
    paths: &mut BTreeSet<ValuePath>,
) {
    for found in chart.templates.values().flat_map(|text| patterns.named.captures_iter(text)) {
        let keys = found[1].replace(')', "");
        let is_global = keys.starts_with("global.");
        let above = if is_global { &[] } else { scope };
        let path: ValuePath =
            above.iter().cloned().chain(keys.split('.').map(str::to_owned)).collect();
        if find_value(effective, &path).is_none() {
            paths.insert(path);
        }
    }
    // `$model.imagePullSecret`: a field of the items of a list.
    let own = find_value(effective, scope);
    let texts = chart.templates.values();
    for key in
        texts.flat_map(|text| patterns.field.captures_iter(text)).map(|found| found[1].to_owned())
    {
        add_item_fields(own.unwrap_or(&Value::Null), &key, &mut scope.to_vec(), paths);
    }
    for dependency in &chart.dependencies {
        let scope = [scope, std::slice::from_ref(&dependency.key)].concat();
        add_named(&dependency.chart, patterns, &scope, effective, paths);
    }
}

/// Adds a field of the items of every list of maps that name an image.
fn add_item_fields(
    value: &Value,
    key: &str,
    path: &mut ValuePath,
    paths: &mut BTreeSet<ValuePath>,
) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                path.push(name.clone());
                add_item_fields(value, key, path, paths);
                path.pop();
            }
        }
        Value::Array(items) => {
            let names_image = |item: &Value| {
                item.as_object().is_some_and(|map| {
                    map.keys()
                        .any(|key| key.to_lowercase().contains("image") || key == "repository")
                })
            };
            let items = items.iter().enumerate().filter(|(_, item)| names_image(item));
            for (index, _) in items {
                let item = [index.to_string(), key.to_owned()];
                paths.insert(path.iter().cloned().chain(item).collect());
            }
        }
        _ => {}
    }
}

/// The value at a path.
fn find_value<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Whether everything above a path is a map or a list, or not there.
fn can_be_set(effective: &Value, path: &[String]) -> bool {
    (1..path.len()).all(|depth| {
        let above = find_value(effective, &path[..depth]);
        above.is_none_or(|value| value.is_object() || value.is_array() || value.is_null())
    })
}

/// Sets a value in an overlay. Helm replaces lists as a whole.
fn set_value(into: &mut Value, effective: Option<&Value>, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if let Some(items @ Value::Array(_)) = effective {
        if !into.is_array() {
            *into = items.clone();
        }
        if let Some((at, item)) =
            key.parse::<usize>().ok().and_then(|at| Some((at, into.get_mut(at)?)))
        {
            set_value(item, items.get(at), rest, value);
        }
        return;
    }
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(map) = into {
        let below = effective.and_then(|effective| effective.get(key));
        set_value(map.entry(key.clone()).or_insert(Value::Null), below, rest, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn all_values_are_listed_and_those_that_only_templates_name() {
        let files = [
            ("Chart.yaml", "name: top\nversion: 1.0.0\n"),
            ("values.yaml", "image: {tag: '1'}\nport: 80\nlist: [{a: x}]\n"),
            ("templates/a.yaml", "{{ (.Values.extra).name }}{{ .Values.port.none }}"),
            ("charts/db/Chart.yaml", "name: db\nversion: 1.0.0\n"),
            ("charts/db/templates/a.yaml", "{{ .Values.absent }}{{ .Values.global.hub }}"),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
        let chart = HelmChart::read(files).unwrap();
        let effective = chart.effective_values(&json!({}));
        let listed: Vec<String> =
            list_paths(&chart, &effective).unwrap().iter().map(format_path).collect();
        for path in
            ["image.tag", "image.repository", "list.0.a", "extra.name", "db.absent", "global.hub"]
        {
            assert!(listed.iter().any(|own| own == path), "{path}: {listed:?}");
        }
        assert!(!listed.iter().any(|own| own.starts_with("port")), "{listed:?}");
        let mut overlay = json!({});
        set_value(
            &mut overlay,
            Some(&effective),
            &["list".into(), "0".into(), "a".into()],
            json!("y"),
        );
        set_value(&mut overlay, Some(&effective), &["extra".into(), "name".into()], json!("z"));
        assert_eq!(overlay, json!({"list": [{"a": "y"}], "extra": {"name": "z"}}));
    }
}
