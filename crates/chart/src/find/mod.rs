//! Finds every image that rendered manifests name: the reference, its location, and how certain it
//! is that the image will be pulled.
//!
//! One module for each kind of location: `pods` (container fields, which the kubelet pulls),
//! `containers` (arguments and environment), `metadata` (annotations), `text` (ConfigMaps and
//! Secrets), `crds` (defaults in CustomResourceDefinitions) and `custom` (everything else by the
//! name of its key or by its form). They add what they find to the collector in `findings`; `scan`
//! runs them all. `registries` finds registries that stand alone; `positions` knows where Kubernetes
//! never has an image.
//!
//! `containers`, `custom` and `text` need each other, as what they search nests without an end: a
//! custom resource has containers, whose arguments are texts, which hold documents.

mod api_groups;
mod compose;
mod containers;
mod crds;
mod custom;
mod findings;
mod metadata;
pub(crate) mod names;
pub(crate) mod pods;
pub(crate) mod positions;
pub(crate) mod registries;
mod scan;
mod text;
mod walk;

pub use findings::{
    BrokenImageField, Confidence, FoundImage, ImageScan, LocationKind, ManifestLocation, PartRole,
    ReferencePart,
};
pub(crate) use scan::find_images_in_values;
pub use scan::{find_images, find_images_in_manifests, find_images_with_rules};
