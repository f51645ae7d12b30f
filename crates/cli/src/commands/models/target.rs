//! Where `gantry models` puts and looks: a place as site.yaml has it, the nodes' own disks, an image.

use std::fmt;
use std::str::FromStr;

use land::claim::NodePath;
use types::destination::Destination;
use types::{Error, Reference, Result};

/// How an image is written.
const IMAGE: &str = "image://";

/// A parsed `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A folder, a bucket, a claim.
    Place(Destination),
    /// A folder of the nodes' own disks.
    Nodes(NodePath),
    /// An image of the models' files.
    Image(Reference),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if NodePath::is_one(text) {
            return text.parse().map(Self::Nodes);
        }
        let Some(image) = text.strip_prefix(IMAGE) else { return text.parse().map(Self::Place) };
        let reference: Reference = image.parse()?;
        if reference.tag().is_none() || reference.digest().is_some() {
            return Err(Error::Invalid {
                what: "image for models",
                text: text.to_owned(),
                reason: "it has no tag of its own; write image://HOST/PATH:TAG".to_owned(),
            });
        }
        Ok(Self::Image(reference))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Nodes(path) => path.fmt(f),
            Self::Image(reference) => write!(f, "{IMAGE}{reference}"),
        }
    }
}
