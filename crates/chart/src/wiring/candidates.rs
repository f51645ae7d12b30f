//! Finds the values of a chart that take extra environment variables, volumes or mounts, by their
//! keys (`extraEnv`, `volumeMounts`), and knows the syntaxes in which charts expect the entries.
//! Which containers each value reaches is learned with markers, in `probe`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::chart::HelmChart;
use crate::find::names;
use crate::path::DocumentPath;
use crate::taint::markers::MarkerKind;
use crate::taint::scopes::ChartScopes;
use crate::template_values::{NAMED_VALUE, TemplatePattern, visit_matches};
use crate::values;

/// A value that a template loops over with key and value, so that it is a map.
static RANGED_VALUE: TemplatePattern =
    TemplatePattern::new(r"range \$\w+,\s*\$\w+\s*:=\s*\.Values\.([A-Za-z0-9_.]+)");
/// A value that a template evaluates, so that it is a text; the second form is `with .Values.x` and
/// `tpl .` in the next action.
static EVALUATED_VALUE: TemplatePattern = TemplatePattern::new(r"tpl\s+\.Values\.([A-Za-z0-9_.]+)");
static EVALUATED_DOT: TemplatePattern =
    TemplatePattern::new(r"with\s+\.Values\.([A-Za-z0-9_.]+)\s*-?\}\}\s*\{\{-?\s*tpl\s+\.\s");
/// A field of a variable: `$model.extraVolumes`.
static ITEM_FIELD: TemplatePattern =
    TemplatePattern::new(r"\$[A-Za-z_][A-Za-z0-9_]*\.([A-Za-z0-9_]+)");

/// A value of the chart that takes entries of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CandidateValue {
    /// The path of the value.
    pub(super) path: DocumentPath,
    /// What it takes.
    pub(super) kind: CandidateKind,
    /// What it is now.
    own: Value,
    /// The syntaxes that are still possible, the likeliest last; empty if helm refused all of them.
    syntaxes: Vec<EntrySyntax>,
}

/// The kind of entries that a value takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CandidateKind {
    /// Environment variables of a container.
    Env,
    /// Volumes of a pod.
    Volumes,
    /// Volume mounts of a container.
    Mounts,
}

/// The syntax in which a value takes entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntrySyntax {
    /// `[{name: A, value: b}]`
    List,
    /// `{A: b}`
    Map,
    /// The list as YAML in a text, which the template inserts as it is.
    Text,
}

impl CandidateValue {
    /// A candidate with its possible syntaxes, by what the value is now; `None` if it cannot take
    /// entries.
    fn new(
        path: DocumentPath,
        holds: CandidateKind,
        own: &Value,
        scopes: &ChartScopes,
    ) -> Option<Self> {
        let is_env = holds == CandidateKind::Env;
        let mut forms = match own {
            Value::Array(items) if items.iter().all(|item| item.get("name").is_some()) => {
                vec![EntrySyntax::List]
            }
            Value::Object(map) if map.is_empty() && is_env => {
                vec![EntrySyntax::List, EntrySyntax::Map]
            }
            Value::Object(map) if is_env && is_variable_map(map) => vec![EntrySyntax::Map],
            Value::String(text) if text.trim().is_empty() => {
                vec![EntrySyntax::List, EntrySyntax::Text]
            }
            Value::String(text) if text.trim_start().starts_with("- ") => vec![EntrySyntax::Text],
            // Nothing is known of an unset value: a list is what most charts expect.
            Value::Null if is_env => vec![EntrySyntax::Map, EntrySyntax::Text, EntrySyntax::List],
            Value::Null => vec![EntrySyntax::Text, EntrySyntax::List],
            _ => return None,
        };
        // A schema that names the type decides. The sort is stable, so the order above stays for
        // the rest.
        let said = |kind: &str| {
            scopes.schemas_of(&path).any(|said| match said.get("type") {
                Some(Value::Array(all)) => all.contains(&json!(kind)),
                other => other == Some(&json!(kind)),
            })
        };
        let is_said = |form: &EntrySyntax| {
            said(match form {
                EntrySyntax::List => "array",
                EntrySyntax::Map => "object",
                EntrySyntax::Text => "string",
            })
        };
        forms.sort_by_key(is_said);
        Some(Self { path, kind: holds, own: own.clone(), syntaxes: forms })
    }

    /// The value with these entries after its own; `None` if no syntax is left.
    pub(super) fn with_entries(&self, entries: &[Value]) -> Option<Value> {
        match self.syntaxes.last()? {
            EntrySyntax::List => {
                let own = self.own.as_array().into_iter().flatten();
                Some(own.chain(entries).cloned().collect())
            }
            EntrySyntax::Map => {
                let mut map = self.own.as_object().cloned().unwrap_or_default();
                for entry in entries {
                    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
                    map.insert(name.to_owned(), entry.get("value").cloned().unwrap_or_default());
                }
                Some(Value::Object(map))
            }
            EntrySyntax::Text => {
                let mut text = self.own.as_str().unwrap_or_default().trim_end().to_owned();
                for entry in entries {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str("- ");
                    // JSON is valid YAML, and needs no indentation.
                    text.push_str(&entry.to_string());
                }
                text.push('\n');
                Some(Value::String(text))
            }
        }
    }

    /// The value with one entry that is named by the candidate's marker. Names of variables are in
    /// capitals, as some charts check that.
    pub(super) fn with_marker(&self, index: usize) -> Option<Value> {
        let mark = candidate_marker(index);
        self.with_entries(&[match self.kind {
            CandidateKind::Env => json!({"name": mark.to_uppercase(), "value": mark}),
            CandidateKind::Volumes => json!({"name": mark, "emptyDir": {}}),
            CandidateKind::Mounts => json!({"name": mark, "mountPath": format!("/{mark}")}),
        }])
    }

    /// Goes on to the next possible syntax; returns `false` if there is none.
    pub(super) fn try_next_syntax(&mut self) -> bool {
        self.syntaxes.pop();
        !self.syntaxes.is_empty()
    }

    /// Whether there is another possible syntax.
    pub(super) fn has_other_syntax(&self) -> bool {
        self.syntaxes.len() > 1
    }
}

/// The marker of a candidate. Short and lower case, so that it is a valid name of a volume (a DNS
/// label of at most 63 characters).
pub(super) fn candidate_marker(index: usize) -> String {
    MarkerKind::Entry.marker(index).to_string()
}

/// The indexes of the candidates whose markers are in a text, in either case.
pub(super) fn find_markers(text: &str) -> Vec<usize> {
    MarkerKind::Entry.find_numbers(&text.to_ascii_lowercase()).collect()
}

/// All candidates of a chart: in its values, and those that only its templates read.
pub(super) fn find_candidates(
    chart: &HelmChart,
    effective: &Value,
    scopes: &ChartScopes,
) -> Vec<CandidateValue> {
    let mut found: BTreeMap<DocumentPath, CandidateValue> = BTreeMap::new();
    values::visit_entries(effective, &DocumentPath::default(), &mut |path, value, _| {
        let Some(holds) = path.last_key().and_then(kind_from_key) else { return };
        let path = scopes.path_to_set(path);
        if let Some(candidate) = CandidateValue::new(path.clone(), holds, value, scopes) {
            found.entry(path).or_insert(candidate);
        }
    });
    visit_matches(chart, &NAMED_VALUE, &mut |keys, scope| {
        let keys = keys.trim_end_matches('.');
        let Some(holds) = kind_from_key(keys.rsplit('.').next().unwrap_or(keys)) else { return };
        let path = scope.keys(keys);
        // `.Values.extraEnv` in a template without a default in values.yaml.
        let is_free = path.parent().find_value(effective).is_some_and(Value::is_object);
        if is_free && path.find_value(effective).is_none() && scopes.allows_value(&path) {
            let candidate = CandidateValue::new(path.clone(), holds, &Value::Null, scopes);
            found.extend(candidate.map(|candidate| (path, candidate)));
        }
    });
    add_candidates_in_list_items(chart, effective, scopes, &mut found);
    order_syntaxes_by_templates(chart, &mut found);
    found.into_values().collect()
}

/// Moves the likeliest syntax to the end, by how templates use a value: `range $k, $v := .Values.x`
/// expects a map, `tpl .Values.x $` a text.
fn order_syntaxes_by_templates(
    chart: &HelmChart,
    found: &mut BTreeMap<DocumentPath, CandidateValue>,
) {
    let uses = [
        (&RANGED_VALUE, EntrySyntax::Map),
        (&EVALUATED_VALUE, EntrySyntax::Text),
        (&EVALUATED_DOT, EntrySyntax::Text),
    ];
    for (pattern, syntax) in uses {
        visit_matches(chart, pattern, &mut |keys, scope| {
            if let Some(candidate) = found.get_mut(&scope.keys(keys)) {
                candidate.syntaxes.sort_by_key(|own| *own == syntax);
            }
        });
    }
}

/// Adds the candidates inside the items of lists: a template that loops over `models` and reads
/// `$model.extraVolumes` has one in each item.
fn add_candidates_in_list_items(
    chart: &HelmChart,
    effective: &Value,
    scopes: &ChartScopes,
    found: &mut BTreeMap<DocumentPath, CandidateValue>,
) {
    // A longer list is data and not a list of workloads.
    const MOST: usize = 32;
    chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
        let texts = chart.templates.values();
        let keys: BTreeSet<&str> = texts.flat_map(|text| ITEM_FIELD.find_groups(text)).collect();
        let keys: Vec<(&str, CandidateKind)> =
            keys.into_iter().filter_map(|key| Some((key, kind_from_key(key)?))).collect();
        let Some(own) = scope.find_value(effective).filter(|_| !keys.is_empty()) else { return };
        values::visit_entries(own, scope, &mut |list, value, _| {
            let items = value.as_array().filter(|items| items.len() <= MOST);
            for (index, item) in items.into_iter().flatten().enumerate() {
                // Items that stand for a workload have a name.
                for (name, holds) in keys.iter().filter(|_| item.get("name").is_some()) {
                    let path = list.index(index).key(*name);
                    if item.get(*name).is_none() && scopes.allows_value(&path) {
                        let candidate =
                            CandidateValue::new(path.clone(), *holds, &Value::Null, scopes);
                        found.extend(candidate.map(|candidate| (path, candidate)));
                    }
                }
            }
        });
    });
}

/// The kind of entries that a value takes, by its key: `extraEnv`, `envVars`, `extraVolumes`,
/// `volumeMounts`. `None` for other keys.
fn kind_from_key(key: &str) -> Option<CandidateKind> {
    let words = names::split_words(key);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [.., "env" | "envs" | "environment" | "envvars"]
        | [.., "env" | "environment", "vars" | "variables"] => Some(CandidateKind::Env),
        [.., "volumes"] => Some(CandidateKind::Volumes),
        [.., "volume", "mounts"] | [.., "volumemounts"] => Some(CandidateKind::Mounts),
        _ => None,
    }
}

/// Whether a map looks like environment variables: names in capitals, and no lists as values.
fn is_variable_map(map: &Map<String, Value>) -> bool {
    map.iter().all(|(name, value)| {
        let is_name =
            name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        is_name && !value.is_array()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn how_a_template_uses_a_value_is_seen() {
        for (pattern, text, found) in [
            (&RANGED_VALUE, "range $k, $v := .Values.a.env", "a.env"),
            (&EVALUATED_VALUE, "tpl .Values.env $", "env"),
            (&EVALUATED_DOT, "with .Values.env }}{{- tpl . $", "env"),
            (&ITEM_FIELD, "$model.extraVolumes", "extraVolumes"),
        ] {
            assert_eq!(pattern.find_groups(text).collect::<Vec<_>>(), [found]);
        }
    }

    #[test]
    fn values_that_take_something_are_known_by_their_key_and_take_it_in_their_own_form() {
        let files = [
            ("Chart.yaml", "name: a\nversion: 1.0.0\n"),
            (
                "values.yaml",
                "env: []\nhub: {extraEnv: {}}\nextraEnvVars: ''\nenvFrom: []\n\
                extraEnvVarsCM: ''\nw: [{volumes: [{name: x}], volumeMounts: ~}]\nenvironment: prod\n",
            ),
            ("templates/a.yaml", "{{ .Values.hub.extraVolumes }}{{ .Values.none.env }}"),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.into()));
        let chart = HelmChart::read(files).unwrap();
        let effective = chart.effective_values(&json!({}));
        let found = find_candidates(&chart, &effective, &ChartScopes::new(&chart, &effective));

        let shown: Vec<String> = found
            .iter()
            .map(|candidate| format!("{} {}", candidate.path, candidate.with_marker(0).unwrap()))
            .collect();
        assert_eq!(
            shown,
            [
                r#"env [{"name":"ZQW0QZ","value":"zqw0qz"}]"#,
                "extraEnvVars \"- {\\\"name\\\":\\\"ZQW0QZ\\\",\\\"value\\\":\\\"zqw0qz\\\"}\\n\"",
                r#"hub.extraEnv {"ZQW0QZ":"zqw0qz"}"#,
                r#"hub.extraVolumes [{"name":"zqw0qz","emptyDir":{}}]"#,
                r#"w[0].volumeMounts [{"name":"zqw0qz","mountPath":"/zqw0qz"}]"#,
                r#"w[0].volumes [{"name":"x"},{"name":"zqw0qz","emptyDir":{}}]"#,
            ]
        );
        assert_eq!(find_markers("a ZQW12QZ zqw3qz zqwx"), [12, 3]);
    }
}
