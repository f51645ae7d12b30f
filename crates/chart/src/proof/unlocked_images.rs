//! Checks images against the lock: the site will only have the images that `gantry.lock` has, so an
//! overlay that names another one leads to `ImagePullBackOff`. Whether an image is locked is asked of
//! [`SiteContent`], like in the policies and the webhook.

use serde::Serialize;
use types::Reference;
use types::site_content::SiteContent;

use crate::find::{Confidence, FoundImage, ManifestLocation};

/// An image that the chart needs and the lock does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct UnlockedImage {
    /// The image, with tag and digest as the chart writes them.
    pub image: Reference,
    /// The first location where the chart names it.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// The locked image that was probably meant, if the name of one is similar: what the user's own
    /// values point at the site may be a name that nothing was loaded under.
    #[serde(rename = "probablyMeant", skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Reference>,
}

impl UnlockedImage {
    /// The name that the probably meant image has at the site, as a remark in brackets; empty
    /// without one.
    pub fn remark(&self) -> String {
        match &self.nearest {
            Some(nearest) => format!(" (locked is {nearest})"),
            None => String::new(),
        }
    }
}

/// The images among those found that the site will not have, each once. Images that are only
/// possible are left out, because nothing may ever pull them.
pub(crate) fn list_unlocked_images<'a>(
    found: impl IntoIterator<Item = &'a FoundImage>,
    content: &SiteContent,
) -> Vec<UnlockedImage> {
    let mut missing: Vec<UnlockedImage> = Vec::new();
    for found in found {
        let is_known = missing.iter().any(|missing| missing.image == found.reference);
        if found.confidence > Confidence::Possible
            && !is_known
            && !content.is_locked(&found.reference)
        {
            let (image, place) = (found.reference.clone(), found.place.clone());
            // At the site it has another name than at its source.
            let nearest = content.find_nearest(&image).map(|root| {
                if content.is_site_name(&image) { root.target() } else { root.source() }.clone()
            });
            missing.push(UnlockedImage { image, place, nearest });
        }
    }
    missing
}
