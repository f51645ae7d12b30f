//! Finds everything that a chart may run: the images that it renders, with the values that each
//! comes from; images that its values name but that were not rendered (`unrendered`); and those
//! that annotations of Chart.yaml list (`hints`).
//!
//! It renders the chart twice in parallel: as it is, and with markers in front of all values that
//! may be part of an image. A marker that comes out in an image shows which value is behind it.

mod condition;
mod hints;
mod inspection;
mod run;
mod subcharts;
mod unrendered;
mod uses;

pub use inspection::Inspection;
pub use run::{inspect_chart, inspect_render, inspect_stream};
pub(crate) use subcharts::find_silent_subcharts;
