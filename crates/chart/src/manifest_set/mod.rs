//! A set of plain manifests: what several files, folders and kustomizations hold, checked and joined to
//! one stream in the order in which it is applied. Reading the files is the caller's work.
//!
//! The text of each document stays as it was written. Only a `List` is taken apart, since each of its
//! items is an object of its own to everything that follows.

mod build;
mod fault;
mod identity;
mod order;

pub use build::{ManifestSet, ManifestText};
pub use fault::{DocumentPlace, ManifestFault};
pub use identity::{ObjectKey, PlacedObject};
