//! Bundles: the files that carry content across the air gap.
//!
//! A bundle consists of one or more bundle files (`NAME-VERSION.0001.gantry`). Each is a tar
//! archive that plain tools can open, with an index of all its entries and an end record at a fixed
//! distance from its end. `docs/formats/bundle.md` describes the format; it calls one file a
//! *volume*, as do `gantry/volume.json` inside it and the local variables here.
//!
//! Data flow: [`plan`] computes the offset of every byte before the first is written, [`pack`]
//! copies blobs from a [`store::Source`] into bundle files, [`verify`] checks one file on its own,
//! and [`Bundle`] is a [`store::Source`] again that reads straight from the media, without
//! unpacking.

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

/// The format version that is written, and the newest one that can be read.
pub const FORMAT: u32 = 1;
