//! A Helm chart in memory: metadata, values, templates and subcharts, read from the files that the
//! caller passes. The caller also unpacks packed subcharts (`charts/x.tgz`) into `charts/x/…`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::path::DocumentPath;
use crate::{Error, Result, manifest, values};

/// A chart and its subcharts.
#[derive(Debug, Clone, PartialEq)]
pub struct HelmChart {
    /// `Chart.yaml`.
    pub metadata: Value,
    /// `values.yaml`.
    pub values: Value,
    /// `values.schema.json`.
    pub schema: Option<Value>,
    /// The files under `templates/` and `crds/`, by their path.
    pub templates: BTreeMap<String, String>,
    /// The subcharts whose files are present.
    pub dependencies: Vec<Subchart>,
}

/// A subchart, as one entry of `dependencies` in Chart.yaml uses it. A chart with two aliases is
/// two subcharts.
#[derive(Debug, Clone, PartialEq)]
pub struct Subchart {
    /// The key of its values in the parent chart: the alias, else the name.
    pub key: String,
    /// The paths of the values that enable it: `condition` in `Chart.yaml`, split at the commas.
    pub conditions: Vec<String>,
    /// The chart.
    pub chart: HelmChart,
}

impl HelmChart {
    /// Reads a chart from its files, keyed by their path in the chart's folder. A common folder
    /// around all of them, as in archives, is stripped. Files that are not UTF-8 are skipped.
    pub fn read(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self> {
        let mut texts = BTreeMap::new();
        for (path, bytes) in files {
            if let Ok(text) = String::from_utf8(bytes) {
                texts.insert(path.trim_start_matches("./").to_owned(), text);
            }
        }
        if !texts.contains_key("Chart.yaml") {
            // The topmost Chart.yaml: those of subcharts are deeper.
            let folder = texts
                .keys()
                .filter(|path| path.ends_with("/Chart.yaml"))
                .min_by_key(|path| path.matches('/').count())
                .and_then(|path| path.strip_suffix("Chart.yaml"))
                .map(str::to_owned);
            let Some(folder) = folder else {
                return Err(Error::File {
                    file: "Chart.yaml".into(),
                    reason: "the file is missing; is this a chart?".into(),
                });
            };
            texts = select_files_below(&texts, &folder);
        }
        Self::from_texts(&texts, 0)
    }

    fn from_texts(texts: &BTreeMap<String, String>, depth: usize) -> Result<Self> {
        // Helm has no limit of its own. Real charts nest two or three levels; without a limit a
        // crafted archive could exhaust the stack.
        const DEEPEST: usize = 16;
        let metadata = parse_chart_file(texts, "Chart.yaml")?.unwrap_or_default();
        let mut values = parse_chart_file(texts, "values.yaml")?.unwrap_or_default();
        if !values.is_object() {
            values = Value::Object(Map::new());
        }
        // Charts of apiVersion v1 keep their dependencies in requirements.yaml; helm 3 and 4 still
        // read it.
        let requirements = match metadata.get("dependencies") {
            Some(dependencies) => dependencies.clone(),
            None => parse_chart_file(texts, "requirements.yaml")?
                .and_then(|mut file| file.get_mut("dependencies").map(Value::take))
                .unwrap_or_default(),
        };
        let mut charts = Vec::new();
        if depth < DEEPEST {
            for folder in find_subchart_folders(texts) {
                charts.push(Self::from_texts(&select_files_below(texts, &folder), depth + 1)?);
            }
        }
        let is_template =
            |path: &&String| path.starts_with("templates/") || path.starts_with("crds/");
        let templates = texts
            .iter()
            .filter(|(path, _)| is_template(path))
            .map(|(path, text)| (path.clone(), text.clone()))
            .collect();
        let schema =
            texts.get("values.schema.json").and_then(|text| serde_json::from_str(text).ok());
        Ok(Self {
            metadata,
            values,
            schema,
            templates,
            dependencies: list_subcharts(&requirements, &charts),
        })
    }

    /// The chart's name.
    pub fn name(&self) -> &str {
        self.metadata.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The chart's version.
    pub fn version(&self) -> &str {
        self.metadata.get("version").and_then(Value::as_str).unwrap_or_default()
    }

    /// The values that templates see when the user's values are `user`: the defaults of the chart
    /// and, below their keys, of all its subcharts, with `global` copied into each subchart.
    pub fn effective_values(&self, user: &Value) -> Value {
        let mut all = self.values.clone();
        if user.is_object() {
            values::merge_values(&mut all, user);
        }
        for dependency in &self.dependencies {
            let mut own = all.get(&dependency.key).cloned().unwrap_or_default();
            if !own.is_object() {
                own = Value::Object(Map::new());
            }
            // As helm does: the parent's global wins over the subchart's own.
            if let (Some(global), Value::Object(own)) = (all.get("global"), &mut own) {
                let below = own.entry("global").or_insert_with(|| Value::Object(Map::new()));
                values::merge_values(below, global);
            }
            let own = dependency.chart.effective_values(&own);
            if let Value::Object(all) = &mut all {
                all.insert(dependency.key.clone(), own);
            }
        }
        all
    }

    /// Calls `visit` with this chart and each subchart, at any depth, and the path of its values.
    pub(crate) fn visit_charts<'a>(
        &'a self,
        path: &DocumentPath,
        visit: &mut impl FnMut(&'a Self, &DocumentPath),
    ) {
        visit(self, path);
        for dependency in &self.dependencies {
            dependency.chart.visit_charts(&path.key(&dependency.key), visit);
        }
    }
}

/// Matches the entries of `dependencies` in Chart.yaml with the charts in `charts/`. Entries
/// without a chart are left out; helm reports those itself.
fn list_subcharts(requirements: &Value, charts: &[HelmChart]) -> Vec<Subchart> {
    let text = |entry: &Value, key: &str| {
        entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let mut named = BTreeSet::new();
    let mut all = Vec::new();
    for entry in requirements.as_array().into_iter().flatten() {
        let Some(name) = text(entry, "name") else { continue };
        let Some(chart) = charts.iter().find(|chart| chart.name() == name) else { continue };
        let conditions = text(entry, "condition").unwrap_or_default();
        all.push(Subchart {
            key: text(entry, "alias").unwrap_or_else(|| name.clone()),
            conditions: conditions.split(',').map(|c| c.trim().to_owned()).collect(),
            chart: chart.clone(),
        });
        named.insert(name);
    }
    // Helm renders every chart in charts/, also one that Chart.yaml does not list.
    for chart in charts.iter().filter(|chart| !named.contains(chart.name())) {
        let key = chart.name().to_owned();
        all.push(Subchart { key, conditions: vec![], chart: chart.clone() });
    }
    all
}

/// The folders `charts/NAME/` that hold a subchart, without those nested deeper.
fn find_subchart_folders(texts: &BTreeMap<String, String>) -> BTreeSet<String> {
    texts
        .keys()
        .filter_map(|path| path.strip_prefix("charts/")?.strip_suffix("/Chart.yaml"))
        .filter(|folder| !folder.contains('/'))
        .map(|folder| format!("charts/{folder}/"))
        .collect()
}

/// The files below `folder`, by their path in it.
fn select_files_below(texts: &BTreeMap<String, String>, folder: &str) -> BTreeMap<String, String> {
    texts
        .iter()
        .filter_map(|(path, text)| Some((path.strip_prefix(folder)?.to_owned(), text.clone())))
        .collect()
}

/// Parses one YAML file of the chart; `None` if the chart does not have it.
fn parse_chart_file(texts: &BTreeMap<String, String>, name: &str) -> Result<Option<Value>> {
    let Some(text) = texts.get(name) else { return Ok(None) };
    let read = manifest::parse_yaml(text);
    read.map(Some).map_err(|fault| Error::InvalidYaml { file: name.to_owned(), fault })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read_umbrella_chart() -> HelmChart {
        let files = [
            (
                "top/Chart.yaml",
                "name: top\nversion: 1.0.0\ndependencies:\n- {name: db, alias: store, \
              condition: store.enabled}\n- {name: db, alias: cache}\n",
            ),
            ("top/values.yaml", "global: {imageRegistry: r}\nstore: {image: {tag: '9'}}\n"),
            ("top/charts/db/Chart.yaml", "name: db\nversion: 2.0.0\n"),
            ("top/charts/db/values.yaml", "image: {repository: a/db, tag: '1'}\nglobal: {x: 1}\n"),
            ("top/charts/lib/Chart.yaml", "name: lib\nversion: 3.0.0\n"),
        ];
        HelmChart::read(files.map(|(path, text)| (path.to_owned(), text.into()))).unwrap()
    }

    #[test]
    fn a_dependency_stands_under_its_alias_and_sees_the_globals() {
        let chart = read_umbrella_chart();
        let keys: Vec<&str> = chart.dependencies.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["store", "cache", "lib"]);
        let all = chart.effective_values(&json!({"cache": {"image": {"tag": "7"}}}));
        assert_eq!(all["store"]["image"], json!({"repository": "a/db", "tag": "9"}));
        assert_eq!(all["cache"]["image"]["tag"], "7");
        assert_eq!(all["cache"]["global"], json!({"x": 1, "imageRegistry": "r"}));
    }

    #[test]
    fn what_is_no_chart_says_so() {
        let error = HelmChart::read([("README.md".to_owned(), vec![])]).unwrap_err();
        assert!(error.to_string().contains("is this a chart?"));
    }
}
