//! Where an image of a lock is named.

use serde::{Deserialize, Serialize};

/// How mentions name the input, beside the names of releases.
const INPUT: &str = "gantry.yaml";

/// One place that names an image.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ImageMention {
    /// The release whose rendered chart names it, or `gantry.yaml`.
    pub by: String,
    /// The template's path in the chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Kind and name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field's path in the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The chart's values that the name is made of, where the render shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Where it is only possible that the image is pulled (`include:` of `gantry.yaml` carries it): why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possible: Option<String>,
}

impl ImageMention {
    /// A mention by `gantry.yaml` itself.
    pub fn of_input() -> Self {
        Self::of_release(INPUT)
    }

    /// A mention by a release, without the place in its chart.
    pub fn of_release(release: impl Into<String>) -> Self {
        Self {
            by: release.into(),
            template: None,
            object: None,
            field: None,
            values: vec![],
            possible: None,
        }
    }
}
