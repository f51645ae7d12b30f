//! How releases name images so that a node pulls what the site holds now, although a tag stayed the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a release names images by beside their tags: `pin:` in site.yaml and gantry.yaml. A pod template
/// that has the digest changes with the content of a tag, so that its pods restart, and those of no other.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ImagePin {
    /// The digest where the site's registry keeps digests, an annotation for the other images.
    #[default]
    Auto,
    /// The digest, also that of an index that the site's registry has in rewritten form; an annotation
    /// where it is not known. Policies and the webhook need the receipt of the load to admit such a digest.
    Digest,
    /// An annotation of the pod template with the locked digests. The pods restart, and nodes pull a tag
    /// that they have again only with the pull policy `Always`.
    Annotation,
    /// Nothing: a tag that has other content is no change.
    None,
}

impl ImagePin {
    /// Every pin, in the order of their documentation.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Digest, Self::Annotation, Self::None];

    /// The word in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Digest => "digest",
            Self::Annotation => "annotation",
            Self::None => "none",
        }
    }
}

impl fmt::Display for ImagePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ImagePin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|pin| pin.as_str() == text);
        found.ok_or_else(|| {
            Error::invalid_text("pin", text, "expected auto, digest, annotation or none")
        })
    }
}
