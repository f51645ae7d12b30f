//! Finds images in Helm charts, rendered manifests and plain manifests, writes the overlay (a
//! values file) that makes a chart use the site's registry, and proves that it does.
//!
//! Pure: no file, process or socket is touched here. The caller passes the chart's files and a
//! function that renders the chart.
//!
//! Data flow: [`manifest`] parses what helm rendered; [`find`] searches it for images and
//! [`inspect`] adds what only the chart's values and templates show; [`relocate`] computes and
//! proves the overlay, which [`gitops`] writes for Argo CD and Flux; [`post_render`] edits the rendered text where no value reaches an image;
//! [`mirrors`] writes node configuration for what is left; [`report`] tells a reviewer about it.
//! [`phone_home`] and [`offline`] find and switch off connections to the internet, and [`wiring`]
//! connects model servers to the site.
//!
//! Three modules carry these: `taint` finds out what each value of a chart turns into, `proof` shows
//! that a change of the render is the intended one, and `edit` reads and changes documents in place.

mod chart;
mod definition_text;
mod edit;
mod error;
mod field_label;
mod image_names;
mod overlay;
mod path;
mod proof;
mod reference_shape;
mod relocation_page;
mod render;
mod rules;
mod set_cover;
mod site_digests;
mod taint;
mod target;
mod template_values;
mod texts;
mod words;

pub mod find;
pub mod gitops;
pub mod image_pins;
pub mod inspect;
pub mod manifest;
pub mod manifest_set;
pub mod mirrors;
pub mod offline;
pub mod phone_home;
pub mod post_render;
pub mod relocate;
pub mod report;
pub mod values;
pub mod wiring;

pub use chart::{HelmChart, Subchart};
pub use error::{Error, Result};
pub use field_label::FieldLabel;
pub use path::{DocumentPath, PathStep, TextEncoding};
pub use relocation_page::RelocationPage;
pub use render::{RenderError, RenderFunction};
pub use rules::OperatorRules;
