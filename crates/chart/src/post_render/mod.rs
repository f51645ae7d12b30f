//! Replaces image references in a rendered stream, for those that no value of the chart reaches.
//! `gantry post-render`, which helm calls between rendering and installing, does its work here.
//!
//! The text is edited in place by `crate::edit`, never serialised anew, so that numbers, quotes
//! and comments stay as they are. Then the result is parsed and proven like an overlay, by
//! `crate::proof`. `mentions` finds texts that name an image without being a location to pull it
//! from; `stream` does the work.

mod mentions;
mod stream;

pub use stream::{PostRenderedStream, post_render, post_render_with_rules};
