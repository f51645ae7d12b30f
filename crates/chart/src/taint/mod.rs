//! Finds out what the values of a chart turn into, by taint: values get markers, the chart is
//! rendered, and where a marker comes out its value has an effect. [`crate::inspect`],
//! [`crate::relocate`] and [`crate::wiring`] stand on this.
//!
//! - `markers`: the texts that mark a value.
//! - `scopes`: which chart a value belongs to, which path a `global` value has, and what the schemas
//!   allow. `guards` are values to set before a chart accepts anything else.
//! - `slots`: the values that may be an image or a part of one.
//! - `indexed_render`: a render in which the documents and texts of another one are found again.
//! - `image_move`: an image in a render, the name that it is to get, and its text in another render.

pub(crate) mod guards;
pub(crate) mod image_move;
pub(crate) mod indexed_render;
pub(crate) mod markers;
pub(crate) mod scopes;
pub(crate) mod slots;
