//! The values that the templates of a chart name: `{{ .Values.image.tag }}` names `image.tag`. The
//! text of templates is searched by patterns, which are compiled once; `inspect::uses` reads the
//! structure of templates where that matters.

use std::sync::OnceLock;

use regex::{Captures, Regex};

use crate::chart::HelmChart;
use crate::path::DocumentPath;

/// A value that a template names, such as `.Values.image.tag`; the keys are its first group.
pub(crate) static NAMED_VALUE: TemplatePattern =
    TemplatePattern::new(r"\.Values\.([A-Za-z0-9_.]+)");

/// The same with parentheses around the maps that may be missing, as in `((.Values.a).b).image`; the
/// first group keeps the closing ones.
pub(crate) static NESTED_VALUE: TemplatePattern =
    TemplatePattern::new(r"\.Values\.([A-Za-z0-9_]+(?:\)*\.[A-Za-z0-9_]+)*)");

/// A field of a list item, by the variable of a `range` or by its dot: `$model.imagePullSecret`,
/// `{{ .imagePullSecret }}`.
pub(crate) static ITEM_FIELD: TemplatePattern =
    TemplatePattern::new(r"(?:\$[A-Za-z_][A-Za-z0-9_]*|[\s({])\.([A-Za-z0-9_]+)");

/// A regular expression for the text of templates and of helm's messages.
pub(crate) struct TemplatePattern {
    pattern: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl TemplatePattern {
    /// A pattern that is compiled when it is used first.
    pub(crate) const fn new(pattern: &'static str) -> Self {
        Self { pattern, compiled: OnceLock::new() }
    }

    /// The matches in a text. None if the pattern is not valid, which a test of each rules out.
    pub(crate) fn find_in<'t>(&'static self, text: &'t str) -> impl Iterator<Item = Captures<'t>> {
        let compiled = self.compiled.get_or_init(|| Regex::new(self.pattern).ok());
        compiled.iter().flat_map(move |pattern| pattern.captures_iter(text))
    }

    /// The first groups of the matches in a text.
    pub(crate) fn find_groups<'t>(&'static self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.find_in(text).filter_map(|found| Some(found.get(1)?.as_str()))
    }
}

/// Calls `visit` with the first group of each match in the templates of a chart and its subcharts,
/// and with the path of the values that `.Values` refers to there.
pub(crate) fn visit_matches<'a>(
    chart: &'a HelmChart,
    pattern: &'static TemplatePattern,
    visit: &mut impl FnMut(&'a str, &DocumentPath),
) {
    chart.visit_charts(&DocumentPath::default(), &mut |chart, scope| {
        // Files of `crds/` are no templates.
        let is_template = |(path, _): &(&'a String, &String)| path.starts_with("templates/");
        for (_, text) in chart.templates.iter().filter(is_template) {
            for found in pattern.find_groups(text) {
                visit(found, scope);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_that_a_template_names_are_found() {
        let text = "{{ .Values.image.tag }}{{ with $.Values.extraEnv }}{{ .Chart.Name }}";
        let found: Vec<_> = NAMED_VALUE.find_groups(text).collect();
        assert_eq!(found, ["image.tag", "extraEnv"]);
        let nested: Vec<_> = NESTED_VALUE.find_groups("{{ ((.Values.a).b).image }}").collect();
        assert_eq!(nested, ["a).b).image"]);
        let text = "{{ if $model.secret }}{{ with .other }}{{.third}} $x.Values.a .Values.b";
        let fields: Vec<_> = ITEM_FIELD.find_groups(text).collect();
        assert_eq!(fields, ["secret", "other", "third", "Values", "Values"]);
    }
}
