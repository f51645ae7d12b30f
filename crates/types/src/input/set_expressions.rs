//! Values of a chart beside its values files.

use serde::Serialize;

/// Values of a chart beside its values files, as expressions of helm's options. helm merges them after the
/// values files and in the order of these fields, whatever the order of the options is
/// (`MergeValues` in helm's `pkg/cli/values/options.go`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SetExpressions {
    /// `--set-json`: `key=JSON`; helm 4 also takes a whole map (`{"key": …}`).
    #[serde(rename = "setJson", skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<String>,
    /// `--set`: `key=value`, where numbers, `true`, `false` and `null` are what they look like.
    #[serde(rename = "set", skip_serializing_if = "Vec::is_empty")]
    pub typed: Vec<String>,
    /// `--set-string`: the same, where every value is a text.
    #[serde(rename = "setString", skip_serializing_if = "Vec::is_empty")]
    pub strings: Vec<String>,
    /// `--set-file`: `key=path`; the value is the text of the file.
    #[serde(rename = "setFile", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl SetExpressions {
    /// Whether there is no expression.
    pub fn is_empty(&self) -> bool {
        let Self { json, typed, strings, files } = self;
        [json, typed, strings, files].into_iter().all(Vec::is_empty)
    }
}
