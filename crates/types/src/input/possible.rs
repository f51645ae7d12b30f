//! `include:` of `gantry.yaml`, as it is written in the file: the word `possible`, or a list.

use serde::Deserialize;

use super::content::PossibleImages;

/// The word that stands for all images that are only possible.
const ALL: &str = "possible";

/// Which images that are only possible are carried.
#[derive(Clone, schemars::JsonSchema)]
#[schemars(untagged)]
pub(super) enum RawPossibleImages {
    /// All of them.
    All(PossibleWord),
    /// Those that match one of these names or globs, such as nvcr.io/nvidia/*.
    Matching(Vec<String>),
}

#[derive(Clone, Copy, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum PossibleWord {
    /// All images that are only possible.
    Possible,
}

// By hand and not `#[serde(untagged)]`, whose errors have neither the line nor the misspelt word.
impl<'de> Deserialize<'de> for RawPossibleImages {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PossibleImagesVisitor;
        impl<'de> serde::de::Visitor<'de> for PossibleImagesVisitor {
            type Value = RawPossibleImages;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the word `possible`, or a list of images")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawPossibleImages, E> {
                match text {
                    ALL => Ok(RawPossibleImages::All(PossibleWord::Possible)),
                    other => Err(E::custom(format!(
                        "{other:?} is not known here; write `include: {ALL}`, or a list of images"
                    ))),
                }
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                seq: A,
            ) -> Result<RawPossibleImages, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
                    .map(RawPossibleImages::Matching)
            }
        }
        deserializer.deserialize_any(PossibleImagesVisitor)
    }
}

impl RawPossibleImages {
    pub(super) fn into_possible_images(self) -> PossibleImages {
        match self {
            Self::All(PossibleWord::Possible) => PossibleImages::Carried,
            Self::Matching(patterns) if patterns.is_empty() => PossibleImages::LeftOut,
            Self::Matching(patterns) => PossibleImages::Matching(patterns),
        }
    }
}
