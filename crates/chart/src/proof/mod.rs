//! Proves a change of a chart's render: compares the render without it and the one with it, leaf by
//! leaf, and reports every difference that the change does not explain. [`crate::relocate`],
//! [`crate::post_render`] and [`crate::wiring`] stand on this.
//!
//! - `differences`: what differs between two renders.
//! - `expected_changes`: which differences are explained.
//! - `prove`: the proof that images were moved and nothing else; `relocation_proof` is its result.
//! - `compiled_in`: images that no manifest names. `unlocked_images`: images that the site will not have.

pub(crate) mod compiled_in;
pub(crate) mod differences;
pub(crate) mod expected_changes;
pub(crate) mod prove;
pub(crate) mod relocation_proof;
pub(crate) mod unlocked_images;
