//! The digests by which a site has images. They are the source's, except where its registry takes no
//! index without all of its platforms; what the site holds is asked of [`SiteContent`].

use serde::Serialize;
use types::Reference;
use types::site_content::{PinState, SiteContent};

use crate::find::ManifestLocation;

/// A digest that manifests name and that the site may not have: what names it is no proof that it
/// can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct UnconfirmedDigest {
    /// The image at the site.
    pub image: Reference,
    /// Where the manifests name it.
    #[serde(rename = "location")]
    pub place: ManifestLocation,
    /// Whether it is known that the site has another digest.
    #[serde(rename = "absent")]
    pub is_absent: bool,
}

impl UnconfirmedDigest {
    /// Why it is not confirmed, and what to do.
    pub fn reason(&self) -> &'static str {
        match self.is_absent {
            true => "the site has another index, without the platforms that were left out",
            false => {
                "an index of which only some platforms are carried, and neither a receipt nor the \
                 site's registry says that it was taken as it is"
            }
        }
    }
}

/// The name of an image at the site with the digest that the site has. `target` has the source's.
pub(crate) fn with_site_digest(
    target: Reference,
    image: &Reference,
    locked: Option<&SiteContent>,
) -> Reference {
    let Some(digest) = image.digest() else { return target };
    let held = locked.and_then(|content| content.digest_at_site(image));
    let Some(held) = held.filter(|held| held != digest) else { return target };
    let (registry, repository) = (target.registry(), target.repository());
    Reference::new(registry, repository, target.tag(), Some(held)).unwrap_or(target)
}

/// The images whose digest the site may not have, each once.
pub(crate) fn list_unconfirmed_digests<'a>(
    named: impl IntoIterator<Item = (&'a Reference, &'a ManifestLocation)>,
    content: &SiteContent,
) -> Vec<UnconfirmedDigest> {
    let mut all: Vec<UnconfirmedDigest> = Vec::new();
    for (image, place) in named {
        let is_absent = match content.pin_state(image) {
            PinState::Held => continue,
            PinState::Unknown => false,
            PinState::Absent => true,
        };
        if !all.iter().any(|known| known.image == *image) {
            all.push(UnconfirmedDigest { image: image.clone(), place: place.clone(), is_absent });
        }
    }
    all
}
