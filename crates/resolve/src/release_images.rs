//! The images that one release names, a chart or a set of manifests: which of them are carried, where
//! each is named, and what is left out.

use std::collections::BTreeSet;

use chart::find::{Confidence, FoundImage};
use types::Reference;
use types::input::{Input, PossibleImages};
use types::lock::ImageMention;

use crate::possible_images::{
    self, LeftOutCause, LeftOutImage, MissingImagePolicy, PossibleSelection, explain_possible,
};

/// The images that a release names.
pub(crate) struct ReleaseImages {
    /// Those that are carried.
    pub(crate) carried: Vec<NamedImage>,
    /// Images that are only possible and that the input does not include.
    pub(crate) left_out: Vec<LeftOutImage>,
}

/// An image that a release names and that is carried.
pub(crate) struct NamedImage {
    pub(crate) reference: Reference,
    pub(crate) seen: ImageMention,
    pub(crate) if_absent: MissingImagePolicy,
}

impl ReleaseImages {
    /// Divides the images that were found into those that are carried and those that are left out, by
    /// the `include:` of the release, where it has one, or that of the input.
    ///
    /// # Errors
    /// A pattern of its `include:` that is not valid or matches nothing.
    pub(crate) fn select(
        release: &str,
        found: Vec<FoundImage>,
        own: Option<&PossibleImages>,
        input: &Input,
    ) -> remote::Result<Self> {
        let selection = PossibleSelection::new(input, own)?;
        if own.is_some() {
            let all: BTreeSet<_> = found.iter().map(|found| found.reference.clone()).collect();
            if let Some(pattern) = selection.list_unmatched(&all).first() {
                let place = format!("the release {release}");
                return Err(possible_images::unmatched_error(pattern, &place, &all));
            }
        }
        let mut images = Self { carried: Vec::new(), left_out: Vec::new() };
        let mut left_out = BTreeSet::new();
        for found in found {
            let policy = selection.find_policy(&found);
            let possible =
                (found.confidence == Confidence::Possible).then(|| explain_possible(&found));
            let Some(if_absent) = policy else {
                // The first place is enough: the reason is mostly the same at all of them.
                if left_out.insert(found.reference.clone()) {
                    images.left_out.push(LeftOutImage {
                        release: release.to_owned(),
                        reference: found.reference,
                        location: found.place.to_string(),
                        cause: LeftOutCause::Possible,
                        reason: possible.unwrap_or_default(),
                    });
                }
                continue;
            };
            let place = found.place;
            let field = place.path.to_string();
            let seen = ImageMention {
                by: release.to_owned(),
                template: place.template,
                object: Some(format!("{}/{}", place.kind, place.name)),
                field: Some(field).filter(|field| !field.is_empty()),
                values: found.values.iter().map(ToString::to_string).collect(),
                possible,
            };
            images.carried.push(NamedImage { reference: found.reference, seen, if_absent });
        }
        Ok(images)
    }

    /// All images, carried and left out.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        let carried = self.carried.iter().map(|image| &image.reference);
        carried.chain(self.left_out.iter().map(|image| &image.reference))
    }
}
