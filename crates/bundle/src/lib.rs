//! Volumes: what crosses the gap.
//!
//! A bundle is one or more volume files. Each is a tar that plain tools open, with an index of all
//! its entries and an end record at a fixed distance from its end (`docs/formats/bundle.md`). The
//! way of the data: [`plan`] knows every byte's place before the first is written, [`pack`] copies
//! blobs from a [`store::Source`] into volumes, [`verify`] checks a volume by itself, and
//! [`Bundle`] is a source again, straight from the media.

mod bundle;
mod document;
mod end;
mod error;
mod feed;
mod index;
mod layout;
mod pack;
mod plan;
mod positional;
mod set;
mod space;
mod tree;
mod verify;
mod volume;
mod writer;

pub use bundle::{Bundle, Completeness};
pub use document::{Manifest, ManifestVolume, VolumeDocument};
pub use end::{BundleId, End};
pub use error::{Error, Fault, Result};
pub use index::{Entry, EntryKind, Index};
pub use pack::{Outcome, Packed, PackedVolume, Recheck, pack, stream};
pub use plan::{Contents, Naming, Plan, PlannedVolume, VolumeSize, plan};
pub use positional::ReadAt;
pub use set::{Problem, Set};
pub use verify::{Damage, Part, Verification, verify};
pub use volume::Volume;

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
