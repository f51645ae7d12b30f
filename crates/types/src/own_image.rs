//! The name of Gantry's own container image: `gantry image` builds it under this name,
//! `tools: [gantry]` adds it to a bundle, and the pods that Gantry starts in a cluster run it.

use crate::{Reference, Result};

/// The repository of Gantry's own image.
pub const REPOSITORY: &str = "ghcr.io/gantry/gantry";
/// The version of this Gantry, which is the image's tag.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name of the image of this Gantry: [`REPOSITORY`] at [`VERSION`].
pub fn image_reference() -> Result<Reference> {
    format!("{REPOSITORY}:{VERSION}").parse()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_image_of_this_gantry_has_its_version_as_tag() {
        let reference = image_reference().unwrap();
        assert_eq!((reference.name().as_str(), reference.tag()), (REPOSITORY, Some(VERSION)));
    }
}
