//! `tools:` as it stands in the file: what goes along for its own sake. Today that is Gantry's own
//! image, from which everything runs that Gantry puts into a cluster.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};

use super::{Image, ImageFrom};
use crate::own_image;

/// The one tool that is carried.
const GANTRY: &str = "gantry";

#[derive(Clone)]
pub(super) enum RawTool {
    Short(String),
    Long(RawToolMap),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToolMap {
    gantry: Vec<PathBuf>,
}

// By hand and not `untagged`, which would hide the place and the nearest key of a mistake.
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
                RawToolMap::deserialize(MapAccessDeserializer::new(map)).map(RawTool::Long)
            }
        }
        deserializer.deserialize_any(ToolVisitor)
    }
}

impl RawTool {
    /// The image that the tool is carried as.
    pub(super) fn check(self) -> Result<Image, String> {
        let binaries = match self {
            Self::Short(name) if name == GANTRY => vec![],
            Self::Short(name) => {
                return Err(format!("{name:?} is no tool that is carried; there is: {GANTRY}"));
            }
            Self::Long(map) if map.gantry.is_empty() => {
                return Err(format!(
                    "{GANTRY}: names no binary; `- {GANTRY}` alone takes the one that runs"
                ));
            }
            Self::Long(map) => map.gantry,
        };
        let reference = own_image::reference().map_err(|error| error.to_string())?;
        Ok(Image { reference, platforms: vec![], from: ImageFrom::Gantry(binaries) })
    }
}
