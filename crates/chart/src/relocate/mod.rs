//! Points the images of a chart at a site's registry, by a values file (the overlay) alone, and
//! proves that the chart then renders to the same objects with other image names.
//!
//! The steps, with a file each:
//!
//! 1. `crate::taint` finds the values that may be (a part of) an image (`slots`).
//! 2. `learn`: put a marker into each of them and render; the markers in the output show which
//!    values make up which image. `refusals` handles charts that do not render with markers.
//! 3. `solve`: choose the fewest values that give every image its name at the site.
//! 4. `try_overlays`: write the overlay, render with it, and prove the result with
//!    `crate::proof`.
//! 5. `side_effects`: where the chart changes something else as well, restore it or leave the
//!    value.
//! 6. `report`: the overlay with comments, and the reason for each image that could not be moved.
//!
//! `run` has the order of these steps, and `relocator` what they know, learn, try and report.
//! `pull_secrets`, `pull_policies` and `operator_values` set what goes with the images.
//!
//! An ordinary chart takes four renders, two at a time: plain and marked, then the overlay and,
//! where something differs from render to render, the plain one again.

mod attempt;
mod learn;
mod lost_lines;
mod operator_values;
mod options;
mod pull_policies;
mod pull_secrets;
mod refusals;
mod relocation;
mod relocator;
mod report;
mod run;
mod side_effects;
mod solve;
mod try_overlays;

pub use options::RelocationOptions;
pub use pull_policies::PullPolicy;
pub use relocation::{RelocatedValue, Relocation};
pub use run::relocate;

pub use crate::proof::compiled_in::CompiledInImage;
pub use crate::proof::relocation_proof::{
    ForeignReference, MovedImage, ProofVerdict, RelocationProof, UnexpectedChange, UnmovedImage,
};
pub use crate::proof::unlocked_images::UnlockedImage;
pub use crate::site_digests::UnconfirmedDigest;
pub use crate::target::RelocationTarget;
