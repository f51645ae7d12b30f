//! The file format of patches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The version of the file format.
const VERSION: u32 = 1;

/// A file of patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PatchFile {
    /// The format's version: 1.
    pub version: u32,
    /// The patches, one for each object.
    pub patches: Vec<ObjectPatch>,
}

/// The additions to one object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ObjectPatch {
    /// The object's kind.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// The namespace that the object names, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether helm runs the object as a hook. Helm 3 does not pass hooks to post-renderers, so a
    /// hook may be missing from the manifests without an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hook: bool,
    /// Annotations to set, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The additions to its containers, init containers included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerPatch>,
    /// Volumes to add to its pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Value>,
}

/// The additions to one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerPatch {
    /// The container's name.
    pub name: String,
    /// Environment variables to set; one that has another value is changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Volume mounts to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<Value>,
}

impl PatchFile {
    /// A patch file with these patches.
    pub fn new(patches: Vec<ObjectPatch>) -> Self {
        Self { version: VERSION, patches }
    }

    /// Parses a patch file. `name` is the file's name in errors.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        let read: Self = types::yaml::read_document(name, text).map_err(Error::Document)?;
        if read.version != VERSION {
            let reason =
                format!("version {} is not supported, expected version {VERSION}", read.version);
            return Err(Error::File { file: name.to_owned(), reason });
        }
        Ok(read)
    }

    /// The text of the file. The same patches always give the same bytes.
    pub fn write(&self) -> Result<String> {
        let head = "# Changes that no value of the chart can make. Apply with: gantry post-render --patches FILE\n";
        let text = types::yaml::write_document(self).map_err(Error::Document)?;
        Ok(format!("{head}{text}"))
    }
}
