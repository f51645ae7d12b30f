//! Finds where the templates of a chart use a value, and under which conditions, by reading the
//! text of the templates. `unrendered` explains with it why an image was not rendered.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition;
use crate::chart::HelmChart;
use crate::path::DocumentPath;

/// How the templates of a chart and its subcharts use values.
#[derive(Debug, Default)]
pub(super) struct ValueUses {
    /// The actions that name one of the values in question.
    mentions: Vec<ValueMention>,
    /// Where each named template is included, by its name. Helm has one namespace of names for all
    /// charts.
    calls: BTreeMap<String, Vec<ActionContext>>,
    /// The values of charts whose templates use all values at once, so that they may look some up
    /// under computed names.
    dynamic: Vec<DocumentPath>,
    /// The paths of the values of the chart and its subcharts.
    scopes: Vec<DocumentPath>,
    /// The text of all templates.
    templates: String,
}

/// An action (`{{ … }}`) that names a value.
#[derive(Debug)]
struct ValueMention {
    /// The value.
    path: DocumentPath,
    text: String,
    place: ActionContext,
}

/// The surroundings of an action in its template.
#[derive(Debug, Clone)]
struct ActionContext {
    /// The conditions around it, the outermost first; that of an `else` without one is left out.
    conditions: Vec<Arc<TemplateCondition>>,
    /// The named template (`define`) that it is part of.
    define: Option<Arc<str>>,
    /// The path of the values that `.Values` refers to.
    scope: Arc<DocumentPath>,
}

/// A condition of a template.
#[derive(Debug, Clone)]
pub(super) struct TemplateCondition {
    /// The expression after `if`, `with` or `range`.
    pub(super) text: String,
    /// The path of the values that `.Values` refers to.
    pub(super) scope: Arc<DocumentPath>,
}

/// A block that is not closed by `end` yet.
struct TemplateBlock {
    condition: Option<Arc<TemplateCondition>>,
    define: Option<Arc<str>>,
}

impl ValueUses {
    /// Reads the templates of a chart and its subcharts for uses of the values at `paths`.
    pub(super) fn read(chart: &HelmChart, paths: &[DocumentPath]) -> Self {
        let mut uses = Self::default();
        chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
            uses.scopes.push(scope.clone());
            let scope = Arc::new(scope.clone());
            for (path, text) in &chart.templates {
                // NOTES.txt is only printed, and files of crds/ are not templates.
                if !path.ends_with("NOTES.txt") && path.starts_with("templates/") {
                    uses.read_template(text, &scope, paths);
                    uses.templates.push_str(text);
                }
            }
        });
        uses
    }

    /// Reads one template, keeping track of its open blocks.
    fn read_template(&mut self, text: &str, scope: &Arc<DocumentPath>, paths: &[DocumentPath]) {
        let mut open: Vec<TemplateBlock> = Vec::new();
        let condition = |text: &str| {
            Some(Arc::new(TemplateCondition { text: text.trim().to_owned(), scope: scope.clone() }))
        };
        for action in split_actions(text) {
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match word {
                "if" => open.push(TemplateBlock { condition: condition(rest), define: None }),
                "with" | "range" => {
                    self.read_action(rest, &open, scope, paths);
                    // `range $k, $v := .Values.x`: the condition is the expression after `:=`.
                    let rest = rest.rsplit(":=").next().unwrap_or(rest);
                    open.push(TemplateBlock { condition: condition(rest), define: None });
                }
                "define" | "block" => {
                    let define = rest.split('"').nth(1).map(Arc::from);
                    open.push(TemplateBlock { condition: None, define });
                }
                "else" => {
                    if let Some(block) = open.last_mut() {
                        let rest = rest.trim_start();
                        let mut words = ["if ", "with "].iter();
                        let other = words.find_map(|word| rest.strip_prefix(word));
                        block.condition = other.and_then(condition);
                    }
                }
                "end" => {
                    open.pop();
                }
                _ => self.read_action(action, &open, scope, paths),
            }
        }
    }

    /// Records which named templates an action includes and which values it names.
    fn read_action(
        &mut self,
        text: &str,
        open: &[TemplateBlock],
        scope: &Arc<DocumentPath>,
        paths: &[DocumentPath],
    ) {
        let place = || ActionContext {
            conditions: open.iter().filter_map(|block| block.condition.clone()).collect(),
            define: open.iter().rev().find_map(|block| block.define.clone()),
            scope: scope.clone(),
        };
        for word in ["include", "template"] {
            for (start, _) in text.match_indices(word) {
                let behind = text[start + word.len()..].trim_start();
                let name = behind.strip_prefix('"').and_then(|rest| rest.split('"').next());
                if let Some(name) = name {
                    self.calls.entry(name.to_owned()).or_default().push(place());
                }
            }
        }
        // Helpers such as `common.images.pullSecrets` get a list of all images; being in it does
        // not mean that an image is rendered.
        if !text.contains(".Values") || text.contains("ullSecrets") {
            return;
        }
        for keys in condition::find_value_paths(text) {
            if keys.is_empty() {
                self.dynamic.push(DocumentPath::clone(scope));
                continue;
            }
            let path = keys.into_iter().fold(DocumentPath::clone(scope), |path, key| path.key(key));
            if paths.iter().any(|wanted| path.is_above(wanted)) {
                self.mentions.push(ValueMention { path, text: text.to_owned(), place: place() });
            }
        }
    }

    /// For each use of one of `paths` in a manifest, also through named templates, the conditions
    /// that must be true for it. Empty if no template uses them.
    pub(super) fn find_condition_chains(
        &self,
        paths: &[DocumentPath],
    ) -> Vec<Vec<&TemplateCondition>> {
        let mut ways = Vec::new();
        for mention in self.find_mentions(paths) {
            self.collect_condition_chains(&mention.place, &mut Vec::new(), &mut ways);
        }
        ways
    }

    /// Whether a value may be looked up under a computed name. A template must at least contain the
    /// text `key`.
    pub(super) fn is_looked_up_dynamically(&self, path: &DocumentPath, key: &str) -> bool {
        self.dynamic.iter().any(|scope| scope.is_above(path)) && self.templates.contains(key)
    }

    /// Whether an action that names one of `paths` also contains this text.
    pub(super) fn is_mentioned_with(&self, paths: &[DocumentPath], text: &str) -> bool {
        self.find_mentions(paths).any(|mention| mention.text.contains(text))
    }

    /// The actions that name one of `paths` or a map around it.
    fn find_mentions(&self, paths: &[DocumentPath]) -> impl Iterator<Item = &ValueMention> {
        // An action that passes all values of a subchart says nothing about a single one.
        let is_scope = |mention: &DocumentPath, path: &DocumentPath| {
            self.scopes.iter().any(|scope| mention.is_above(scope) && scope.is_above(path))
        };
        self.mentions.iter().filter(move |mention| {
            paths.iter().any(|path| mention.path.is_above(path) && !is_scope(&mention.path, path))
        })
    }

    /// Follows an action outwards through the named templates that include it, and adds the
    /// conditions of each chain of includes to `ways`. `through` are the templates on the current
    /// chain.
    fn collect_condition_chains<'a>(
        &'a self,
        place: &'a ActionContext,
        through: &mut Vec<&'a str>,
        ways: &mut Vec<Vec<&'a TemplateCondition>>,
    ) {
        // Named templates include each other, also in circles. Real charts stay below these limits.
        const DEEPEST: usize = 6;
        const MOST: usize = 64;
        let Some(define) = place.define.as_deref() else {
            ways.push(place.conditions.iter().map(AsRef::as_ref).collect());
            return;
        };
        if through.contains(&define) || through.len() >= DEEPEST || ways.len() >= MOST {
            return;
        }
        through.push(define);
        let calls = self.calls.get(define).map(Vec::as_slice).unwrap_or_default();
        // Subcharts often define the same name (`common.image`). If the action's own chart includes
        // it, includes by other charts are about their values.
        let is_own = |call: &&ActionContext| call.scope == place.scope;
        let has_own = calls.iter().any(|call| is_own(&call));
        for call in calls.iter().filter(|call| !has_own || is_own(call)) {
            let before = ways.len();
            self.collect_condition_chains(call, through, ways);
            // Everything that was added by this include also depends on the inner conditions.
            for way in &mut ways[before..] {
                way.extend(place.conditions.iter().map(AsRef::as_ref));
            }
        }
        through.pop();
    }
}

/// The actions of a template, without braces and trim markers. Comments become empty actions.
fn split_actions(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find("{{")?;
        let behind = &rest[start + 2..];
        let inner = behind.strip_prefix('-').unwrap_or(behind).trim_start();
        // A comment may contain `}}`, so its end is not the next one.
        if inner.starts_with("/*") {
            let end = behind.find("*/").map_or(behind.len(), |end| end + 2);
            rest = &behind[end..];
            return Some("");
        }
        let end = behind.find("}}").unwrap_or(behind.len());
        rest = behind.get(end + 2..).unwrap_or_default();
        let action = behind[..end].trim();
        Some(action.trim_start_matches('-').trim_end_matches('-').trim())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_uses(files: &[(&str, &str)], paths: &[&str]) -> ValueUses {
        let chart = [("Chart.yaml", "name: c\nversion: 1.0.0\n")];
        let files = chart.iter().chain(files);
        let files = files.map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
        let paths: Vec<DocumentPath> = paths.iter().copied().map(parse_path).collect();
        ValueUses::read(&HelmChart::read(files).unwrap(), &paths)
    }

    fn parse_path(dotted: &str) -> DocumentPath {
        DocumentPath::default().keys(dotted)
    }

    /// The conditions on the ways to a value.
    fn list_condition_chains(uses: &ValueUses, dotted: &str) -> Vec<String> {
        let way = |way: &Vec<&TemplateCondition>| {
            way.iter().map(|condition| condition.text.as_str()).collect::<Vec<_>>().join(", ")
        };
        uses.find_condition_chains(&[parse_path(dotted)]).iter().map(way).collect()
    }

    #[test]
    fn a_value_is_used_behind_the_conditions_around_it_also_through_helpers() {
        let uses = read_uses(
            &[
                (
                    "templates/_helpers.tpl",
                    "{{- define \"x.image\" -}}{{/* .Values.no }} */}}{{ if .Values.short }}\
                 {{ .Values.a.image.tag }}{{ end }}{{ end }}",
                ),
                (
                    "templates/a.yaml",
                    "{{ if .Values.on }}{{ with .Values.b }}image: {{ include \"x.image\" $ }}{{ end }}\
                 {{ else }}{{ $.Values.c }}{{ end }}",
                ),
                ("templates/NOTES.txt", "{{ .Values.d }}"),
            ],
            &["a.image.tag", "c.x", "d", "a.other"],
        );
        assert_eq!(
            list_condition_chains(&uses, "a.image.tag"),
            [".Values.on, .Values.b, .Values.short"]
        );
        assert_eq!(list_condition_chains(&uses, "c.x"), [""]);
        assert!(
            list_condition_chains(&uses, "d").is_empty()
                && list_condition_chains(&uses, "a.other").is_empty()
        );
        assert!(uses.dynamic.is_empty());
    }

    #[test]
    fn helpers_that_call_each_other_end() {
        let uses = read_uses(
            &[(
                "templates/_h.tpl",
                "{{ define \"a\" }}{{ include \"b\" . }}{{ .Values.x }}{{ end }}\
             {{ define \"b\" }}{{ include \"a\" . }}{{ end }}",
            )],
            &["x"],
        );
        assert!(list_condition_chains(&uses, "x").is_empty());
    }
}
