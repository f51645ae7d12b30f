//! Makes the pods of a release name the digests that a site has. A tag that was pushed again then is a
//! change of exactly the pod templates that use it: they restart, on nodes that still have the old
//! content too, and nothing else does.
//!
//! - `values`: where a value of the chart takes the digest, the overlay has it, proven by a render.
//! - `stream`: everything else is written into the rendered manifests, by helm's post-renderer.
//!
//! An image that no digest can be named for is listed in an annotation of its pod template. That
//! restarts the pods; what nodes pull then is a matter of the pull policy.

mod stream;
mod values;

pub use stream::{LOCKED_IMAGES, PinnedStream, pin_images};
pub use values::{PinnedOverlay, PinnedValue, pin_overlay};
