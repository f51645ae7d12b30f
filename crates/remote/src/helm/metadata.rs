//! `Chart.yaml`: a chart's metadata. Its JSON form is the config of the chart's OCI artifact.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::yaml;
use crate::{Error, Result};

/// A chart's metadata (helm 3.22, pkg/chart/metadata.go). The fields have helm's order, which
/// determines the bytes of the artifact's config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartMetadata {
    /// The chart's name.
    pub name: String,
    /// The project's home page.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub home: String,
    /// URLs of the source code.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub sources: Vec<String>,
    /// The chart's version.
    #[serde(deserialize_with = "text::read")]
    pub version: String,
    /// A description in one sentence.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub description: String,
    /// Keywords for a search.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub keywords: Vec<String>,
    /// The chart's maintainers.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub maintainers: Vec<ChartMaintainer>,
    /// The URL of an icon.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub icon: String,
    /// `v1` or `v2`.
    #[serde(default, rename = "apiVersion", deserialize_with = "text::read")]
    pub api_version: String,
    /// The value that enables the chart as a dependency.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub condition: String,
    /// Tags that enable the chart as a dependency.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub tags: String,
    /// The version of the application that the chart installs.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub app_version: String,
    /// Whether the chart should no longer be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// Annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The Kubernetes versions that the chart supports, as a range.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub kube_version: String,
    /// The charts that it depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub dependencies: Vec<ChartDependency>,
    /// `application` or `library`.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "text::is_empty",
        deserialize_with = "text::read"
    )]
    pub kind: String,
}

/// A maintainer of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChartMaintainer {
    /// The name.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub name: String,
    /// The e-mail address.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub email: String,
    /// The home page.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub url: String,
}

/// A dependency of a chart (helm 3.22, pkg/chart/dependency.go).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChartDependency {
    /// Its name.
    pub name: String,
    /// The version or range of versions.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub version: String,
    /// The URL of its repository; empty for a chart that is in `charts/`.
    #[serde(default, deserialize_with = "text::read")]
    pub repository: String,
    /// The value that enables it.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub condition: String,
    /// Tags that enable it.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// Whether it is enabled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
    /// Values that the parent takes from it.
    #[serde(
        default,
        rename = "import-values",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub import_values: Vec<Value>,
    /// Another name for it in the parent's values.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub alias: String,
}

impl ChartMetadata {
    /// Parses a `Chart.yaml` and checks name and version. `what` is the chart's name in errors.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        let metadata: Self = yaml::parse_metadata(&format!("Chart.yaml of {what}"), bytes)?;
        metadata
            .validate()
            .map_err(|reason| Error::Local { path: what.into(), reason: reason.into() })?;
        Ok(metadata)
    }

    /// The config of the chart's artifact: the same bytes for the same `Chart.yaml`.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            Error::invalid_document(format!("the config of chart {}", self.name), error)
        })
    }

    /// The tag in a registry: the version with `_` for `+`, which tags cannot contain; helm does
    /// the same.
    pub fn tag(&self) -> String {
        self.version.replace('+', "_")
    }

    /// The checks of helm's `Metadata.Validate` (helm 3.22) that protect Gantry: the name becomes
    /// part of paths and references, the version becomes a tag.
    fn validate(&self) -> Result<(), String> {
        let is_name = !self.name.is_empty()
            && self.name.len() <= 250
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !self.name.starts_with('.');
        if !is_name {
            return Err(format!(
                "the name {:?} in Chart.yaml is not valid; it may have letters, digits, - _ and .",
                self.name
            ));
        }
        if super::version::parse_lenient_version(&self.version).is_none() {
            return Err(format!(
                "the version {:?} in Chart.yaml is not a semantic version such as 1.2.3",
                self.version
            ));
        }
        Ok(())
    }
}

/// Reads text fields leniently: chart authors leave them empty (`home:`), which is `null` in YAML.
mod text {
    use super::{Deserialize, Deserializer};

    pub(super) fn is_empty(text: &str) -> bool {
        text.is_empty()
    }

    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
    }
}

fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_that_look_like_numbers_stay_text() {
        let text = "apiVersion: v2\nname: a\nversion: 1.10\nappVersion: 1.20\nhome:\nkeywords:\n";
        let metadata = ChartMetadata::parse("a", text.as_bytes()).unwrap();
        assert_eq!(metadata.version, "1.10");
        assert_eq!(
            String::from_utf8(metadata.to_json().unwrap()).unwrap(),
            r#"{"name":"a","version":"1.10","apiVersion":"v2","appVersion":"1.20"}"#
        );
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        let text = "apiVersion: v2\nname: ../evil\nversion: 1.0.0\n";
        assert!(matches!(ChartMetadata::parse("a", text.as_bytes()), Err(Error::Local { .. })));
    }
}
