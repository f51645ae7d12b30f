//! Patches of rendered objects, for what no value of the chart reaches: `gantry relocate --offline
//! --patches` writes them, and `gantry post-render --patches` applies them between helm and the
//! cluster. The manifests are edited in place, so that comments and number formats stay as they
//! are. Each edited document is parsed again and must be exactly what the patches describe.

mod apply;
mod file;

pub use file::{ContainerPatch, ObjectPatch, PatchFile};
