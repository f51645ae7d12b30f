//! What a site holds: for everything that is locked, its name at the site, its digest there, and
//! the digests of the manifests that belong to it. The overlay's proof, the admission policies, the
//! webhook and the checks of a running site all ask [`SiteContent`], so that they cannot differ in
//! what they call locked.
//!
//! Data flow: locks, receipts and `registry:` of site.yaml go into [`SiteContent::new`]; look-ups
//! by reference or digest return [`SiteRoot`]s.
//!
//! The rules, each of which is written down here alone:
//!
//! - A reference with a digest means what has this digest; its tag does not matter, since container
//!   runtimes ignore it then. A reference without digest means what is locked with this tag.
//! - A root has up to four sorts of digests: the one that the source has, those of rewritten
//!   indexes, those of the manifests of its platforms, and those of attestations in its index. The
//!   first three start pods; an attestation starts none.
//! - A name below the site's prefix is a name at the site and nothing else, even where the source of
//!   an image was the same registry.
//! - Pods start images, and mount models as image volumes. Charts, files, and what is attached to
//!   images (signatures, SBOMs, attestations) start in no pod.
//! - A pin on an index of which only some platforms are carried is held where a receipt (or the
//!   registry's own answer, written as one) says so. Registries differ in whether they take such an
//!   index, so without either it is not known.
//! - A receipt speaks of a root if it names the root's repository with the root's digest. Receipts
//!   of the site's own registry count before those of other targets; among several, a later one
//!   is newer.

mod content;
mod root;

pub use content::SiteContent;
pub use root::{DigestRole, PinState, SiteRoot};
