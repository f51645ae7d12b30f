//! Images that no manifest names because an operator has their names compiled in and starts them
//! itself. Rules (`rules/*.yaml`) know of them.

use serde::Serialize;
use types::Reference;

use crate::find::ManifestLocation;
use crate::path::DocumentPath;

/// An image whose name is compiled into an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct CompiledInImage {
    /// The image that the operator pulls.
    pub image: Reference,
    /// The name that it has at the site.
    #[serde(rename = "target")]
    pub to: Reference,
    /// The document that makes the operator pull it: its Deployment, or a custom resource.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// Values of the chart that may choose another image, according to the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<DocumentPath>,
    /// The rule's explanation, one sentence.
    pub why: String,
    /// Whether the lock has the image, so that the site has it; absent without a lock.
    #[serde(rename = "locked", skip_serializing_if = "Option::is_none")]
    pub is_locked: Option<bool>,
}

impl CompiledInImage {
    /// Why the image is pulled, and which values choose another, in a sentence or two.
    pub fn reason(&self) -> String {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        match values.as_slice() {
            [] => self.why.clone(),
            _ => format!("{} Values that choose another image: {}.", self.why, values.join(", ")),
        }
    }

    /// Whether the lock has it, as a remark in brackets; empty without a lock.
    pub fn lock_remark(&self) -> &'static str {
        match self.is_locked {
            Some(true) => " (in the lock)",
            Some(false) => " (not in the lock)",
            None => "",
        }
    }
}
