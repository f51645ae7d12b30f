//! `tools:` of `gantry.yaml` as it is written in the file. Today the only tool is Gantry's own image,
//! which all pods that Gantry starts in a cluster run.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};

use super::content::{ImageSource, InputImage};
use crate::own_image;

/// The only tool there is.
const GANTRY: &str = "gantry";

#[derive(Clone, schemars::JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawTool {
    Short(#[schemars(extend("const" = GANTRY))] String),
    Long(RawToolFields),
}

/// Gantry's own image, made from given binaries.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToolFields {
    /// The binaries of Gantry, one for each architecture.
    gantry: Vec<PathBuf>,
}

// By hand and not `#[serde(untagged)]`, whose errors have neither the line nor the misspelt key.
impl<'de> Deserialize<'de> for RawTool {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ToolVisitor;
        impl<'de> Visitor<'de> for ToolVisitor {
            type Value = RawTool;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a tool's name, or a map with `gantry:` and a list of binaries")
            }
            fn visit_str<E>(self, text: &str) -> Result<RawTool, E> {
                Ok(RawTool::Short(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTool, A::Error> {
                RawToolFields::deserialize(MapAccessDeserializer::new(map)).map(RawTool::Long)
            }
        }
        deserializer.deserialize_any(ToolVisitor)
    }
}

impl RawTool {
    /// The tool as an image of the bundle.
    pub(super) fn into_image(self) -> Result<InputImage, String> {
        let binaries = match self {
            Self::Short(name) if name == GANTRY => vec![],
            Self::Short(name) => {
                return Err(format!("{name:?} is not a known tool; the only one is {GANTRY}"));
            }
            Self::Long(map) if map.gantry.is_empty() => {
                return Err(format!(
                    "{GANTRY}: lists no binary; write `- {GANTRY}` alone to use the running binary"
                ));
            }
            Self::Long(map) => map.gantry,
        };
        let reference = own_image::image_reference().map_err(|error| error.to_string())?;
        Ok(InputImage {
            reference,
            platforms: vec![],
            attached: None,
            from: ImageSource::Gantry(binaries),
        })
    }
}
