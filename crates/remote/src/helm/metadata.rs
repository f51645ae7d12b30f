//! `Chart.yaml`: what a chart says of itself. Also its JSON form, which is the config of a chart's
//! OCI artifact.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::yaml;
use crate::{Error, Result};

/// A chart's metadata (helm 3.22, pkg/chart/metadata.go), in helm's order of fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The chart's name.
    pub name: String,
    /// The project's page.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub home: String,
    /// Where the source code is.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub sources: Vec<String>,
    /// The chart's version.
    #[serde(deserialize_with = "text::read")]
    pub version: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub description: String,
    /// Words to search for.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub keywords: Vec<String>,
    /// Who looks after the chart.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub maintainers: Vec<Maintainer>,
    /// The URL of an icon.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub icon: String,
    /// `v1` or `v2`.
    #[serde(default, rename = "apiVersion", deserialize_with = "text::read")]
    pub api_version: String,
    /// A value that switches the chart on, in an umbrella.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub condition: String,
    /// Tags that switch the chart on, in an umbrella.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub tags: String,
    /// The version of what is inside.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub app_version: String,
    /// Whether the chart should no longer be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// Free annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The versions of Kubernetes that the chart is for.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub kube_version: String,
    /// The charts that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub dependencies: Vec<Dependency>,
    /// `application` or `library`.
    #[serde(
        default,
        rename = "type",
        skip_serializing_if = "text::is_empty",
        deserialize_with = "text::read"
    )]
    pub kind: String,
}

/// Who looks after a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintainer {
    /// A name.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub name: String,
    /// An address.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub email: String,
    /// A page.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub url: String,
}

/// A chart that a chart needs (helm 3.22, pkg/chart/dependency.go).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// A version or range.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub version: String,
    /// Its repository; empty for a chart that lies in `charts/`.
    #[serde(default, deserialize_with = "text::read")]
    pub repository: String,
    /// A value that switches it on.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub condition: String,
    /// Tags that switch it on.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// Whether it is loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enabled: bool,
    /// Values that it gives to its parent.
    #[serde(
        default,
        rename = "import-values",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub import_values: Vec<Value>,
    /// Another name for it.
    #[serde(default, skip_serializing_if = "text::is_empty", deserialize_with = "text::read")]
    pub alias: String,
}

impl Metadata {
    /// Reads a `Chart.yaml`. `what` is what errors call the chart.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        let metadata: Self = yaml::read(&format!("Chart.yaml of {what}"), bytes)?;
        metadata.check().map_err(|reason| Error::Local { path: what.into(), reason })?;
        Ok(metadata)
    }

    /// The artifact's config: the same bytes for the same `Chart.yaml`.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| Error::document(format!("the config of chart {}", self.name), error))
    }

    /// The tag in a registry: `+` is no letter of a tag, helm writes `_` for it.
    pub fn tag(&self) -> String {
        self.version.replace('+', "_")
    }

    /// helm 3.22, `Metadata.Validate`, as far as a wrong one could do harm here.
    fn check(&self) -> Result<(), String> {
        let is_name = !self.name.is_empty()
            && self.name.len() <= 250
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !self.name.starts_with('.');
        if !is_name {
            return Err(format!("Chart.yaml gives the name {:?}, which is none", self.name));
        }
        if super::version::lenient(&self.version).is_none() {
            return Err(format!("Chart.yaml gives the version {:?}, which is none", self.version));
        }
        Ok(())
    }
}

/// Text that chart authors leave empty (`home:`).
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
        let metadata = Metadata::parse("a", text.as_bytes()).unwrap();
        assert_eq!(metadata.version, "1.10");
        assert_eq!(
            String::from_utf8(metadata.to_json().unwrap()).unwrap(),
            r#"{"name":"a","version":"1.10","apiVersion":"v2","appVersion":"1.20"}"#
        );
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        let text = "apiVersion: v2\nname: ../evil\nversion: 1.0.0\n";
        assert!(matches!(Metadata::parse("a", text.as_bytes()), Err(Error::Local { .. })));
    }
}
