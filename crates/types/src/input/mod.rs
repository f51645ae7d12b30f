//! `gantry.yaml`: the charts, manifests, images, models and files that a bundle is to carry. The file is read
//! strictly (`raw`), then converted to types in which every value is valid. `gantry lock` resolves it
//! to digests. Paths are relative to the folder of the file.

pub mod checks;
mod content;
mod manifests;
mod needs;
mod parse;
mod possible;
mod raw;
mod releases;
pub mod rules;
mod set_expressions;
mod tool;
pub mod wiring;

pub use content::{
    ArchiveSource, AttachedContent, ChartSource, HubModelSource, ImageSource, Input, InputArchive,
    InputChart, InputImage, InputManifestSet, InputModel, ManifestSource, ModelDependencies,
    PossibleImages,
};
pub use releases::InputRelease;
pub use set_expressions::SetExpressions;
