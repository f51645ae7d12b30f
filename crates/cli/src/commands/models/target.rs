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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_scheme_decides_what_a_target_is_and_it_is_shown_as_it_was_written() {
        let read = |text: &str| {
            let target: ModelPushTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            target
        };
        assert!(matches!(
            read("s3://bucket/models"),
            ModelPushTarget::Place(ModelDestination::Bucket(_))
        ));
        assert!(matches!(read("./models"), ModelPushTarget::Place(ModelDestination::Folder(_))));
        assert!(matches!(
            read("pvc://ai/models/sub"),
            ModelPushTarget::Place(ModelDestination::Claim(_))
        ));
        assert!(matches!(read("node:///var/lib/models"), ModelPushTarget::Nodes(_)));
        assert!(matches!(read("image://registry.site:5000/models:1"), ModelPushTarget::Image(_)));
    }

    #[test]
    fn an_image_for_models_has_no_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for name in
            [&format!("registry.site/models@{digest}"), &format!("registry.site/models:1@{digest}")]
        {
            let error =
                format!("image://{name}").parse::<ModelPushTarget>().unwrap_err().to_string();
            assert!(error.contains("write image://HOST/PATH:TAG"), "{error}");
        }
    }
}
