//! Find images in charts, renders and manifests; write the overlay that moves them to a site; prove
//! that it does. Pure: no file, process or socket is touched here. A render is a function that is
//! handed in, a chart is the files that were read by the caller.
//!
//! The way of the data: [`manifest`] reads what helm rendered, [`find`] walks it for images.

mod chart;
mod error;
mod form;
mod overlay;
mod path;
mod render;
mod rules;

pub mod find;
pub mod inspect;
pub mod manifest;
pub mod mirrors;
pub mod offline;
pub mod phone_home;
pub mod post_render;
pub mod relocate;
pub mod report;
pub mod values;
pub mod wiring;

pub use chart::{Chart, Dependency};
pub use error::{Error, Result};
pub use path::{Encoding, Path, Step};
pub use render::{Render, RenderError};
pub use rules::Rules;
