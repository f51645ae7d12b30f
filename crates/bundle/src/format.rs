//! The version of the bundle format (`docs/formats/bundle.md`).

/// The format version that is written, and the newest one that can be read.
pub const FORMAT: u32 = 1;
