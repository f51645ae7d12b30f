//! The entries that containers and pods get: variables, mounts and volumes.

use serde_json::{Value, json};

use crate::values;

/// An environment variable with its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EnvironmentVariable {
    pub(super) name: String,
    pub(super) value: String,
}

/// A volume mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ContainerMount {
    /// The volume's name.
    pub(super) volume: String,
    /// The absolute path in the container.
    pub(super) path: String,
    /// The folder of the volume (`subPath`); empty for all of it.
    pub(super) folder: String,
    /// Whether the volume has to be added too; `false` if the pod has it already.
    pub(super) is_own: bool,
}

impl ContainerMount {
    /// The mount as manifests write it; always read-only.
    pub(super) fn to_value(&self) -> Value {
        let mut mount = json!({"name": self.volume, "mountPath": self.path, "readOnly": true});
        if !self.folder.is_empty() {
            mount["subPath"] = json!(self.folder);
        }
        mount
    }
}

/// A volume of a pod: its name, and the whole entry as JSON. A text, since `Value` has no order and
/// volumes are keys of maps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodVolume {
    pub(super) name: String,
    text: String,
}

impl PodVolume {
    /// A volume from its source: `{"configMap": {…}}`.
    pub(super) fn new(name: &str, source: Value) -> Self {
        let mut value = json!({"name": name});
        values::merge_values(&mut value, &source);
        Self { name: name.to_owned(), text: value.to_string() }
    }

    /// The volume as manifests write it.
    pub(super) fn to_value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}
