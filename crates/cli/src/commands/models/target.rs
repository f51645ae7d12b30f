//! The target of `gantry models`: a model target as in site.yaml, the nodes' own disks, or an image.

use std::fmt;
use std::str::FromStr;

use land::claim::NodePath;
use types::destination::ModelDestination;
use types::{Error, Reference, Result};

/// The prefix of an image target.
const IMAGE: &str = "image://";

/// A parsed `--to`, or the argument of `verify` and `ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelPushTarget {
    /// A folder, a bucket or a claim, as in site.yaml.
    Place(ModelDestination),
    /// A folder on the nodes' own disks (`node:///…`).
    Nodes(NodePath),
    /// An image made of the models' files (`image://…`).
    Image(Reference),
}

impl FromStr for ModelPushTarget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if NodePath::is_node_path(text) {
            return text.parse().map(Self::Nodes);
        }
        let Some(image) = text.strip_prefix(IMAGE) else { return text.parse().map(Self::Place) };
        let reference: Reference = image.parse()?;
        if reference.tag().is_none() || reference.digest().is_some() {
            return Err(Error::Invalid {
                what: "image for models",
                text: text.to_owned(),
                reason: "it needs a tag and no digest; write image://HOST/PATH:TAG".into(),
            });
        }
        Ok(Self::Image(reference))
    }
}

impl fmt::Display for ModelPushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Nodes(path) => path.fmt(f),
            Self::Image(reference) => write!(f, "{IMAGE}{reference}"),
        }
    }
}
