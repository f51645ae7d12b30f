//! Patches of rendered objects, for what no value reaches: written by `gantry relocate --offline
//! --patches`, applied by `gantry post-render --patches` between helm and the cluster. The text is
//! edited where it stands, never written anew; then it is read again, and has to be what the patches
//! say and nothing else.

mod apply;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The version of the form.
const VERSION: u32 = 1;

/// A file of patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Patches {
    /// The format's version: 1.
    pub version: u32,
    /// One for each object.
    pub patches: Vec<Patch>,
}

/// What one object gets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Patch {
    /// The object's kind.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// Whether helm runs it as a hook. Helm 3 hands hooks to no post-renderer, so it may be absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hook: bool,
    /// Annotations that are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What its containers get, those that start it included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerPatch>,
    /// Volumes that its pod gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Value>,
}

/// What one container gets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerPatch {
    /// The container's name.
    pub name: String,
    /// Variables; one that is there with another value gets this one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<Value>,
}

impl Patches {
    /// A file of these patches.
    pub fn new(patches: Vec<Patch>) -> Self {
        Self { version: VERSION, patches }
    }

    /// Reads a file. `name` is what errors call it.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        let read: Self = types::yaml::read(name, text).map_err(Error::Document)?;
        if read.version != VERSION {
            let reason = format!("version {} is not known, only {VERSION}", read.version);
            return Err(Error::File { file: name.to_owned(), reason });
        }
        Ok(read)
    }

    /// The file's text; the same patches give the same bytes.
    pub fn write(&self) -> Result<String> {
        let head =
            "# What no value of the chart reaches. Applied by: gantry post-render --patches FILE\n";
        let text = types::yaml::write(self).map_err(Error::Document)?;
        Ok(format!("{head}{text}"))
    }

    /// Applies the patches to a rendered stream. Applied already, they change nothing.
    ///
    /// # Errors
    /// An object or a container is not there, or a place is written in a way that cannot be
    /// changed; then nothing of the stream may be used.
    pub fn apply(&self, stream: &str) -> Result<String> {
        apply::apply(self, stream)
    }
}
