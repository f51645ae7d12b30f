//! Bundles: the files that carry content across the air gap.
//!
//! A bundle consists of one or more bundle files (`NAME-VERSION.0001.gantry`). Each is a tar
//! archive that plain tools can open, with an index of all its entries and an end record at a fixed
//! distance from its end. `docs/formats/bundle.md` describes the format; it calls one file a
//! *volume*, as do `gantry/volume.json` inside it and the local variables here.
//!
//! Data flow: [`plan_files`] computes the offset of every byte before the first is written, [`pack_to_folder`]
//! copies blobs from a [`store::Source`] into bundle files, [`verify_file`] checks one file on its own,
//! and [`Bundle`] is a [`store::Source`] again that reads straight from the media, without
//! unpacking.

mod blob_reader;
mod bundle;
mod bundle_file;
mod bundle_id;
mod disk_space;
mod document;
mod end_record;
mod entry_name;
mod error;
mod file_name;
mod file_set;
mod format;
mod index;
mod pack;
mod pack_folders;
mod pack_plan;
mod pack_report;
mod plan;
mod read_at;
mod tar_layout;
mod tree_hash;
mod verify;
mod writer;

pub use bundle::{Bundle, Completeness};
pub use bundle_file::BundleFile;
pub use bundle_id::BundleId;
pub use document::{BundleFileDocument, BundleManifest, BundleManifestFile};
pub use end_record::EndRecord;
pub use error::{BundleFileFault, Error, Result};
pub use file_set::{BundleFileSet, MisplacedBundleFile};
pub use format::FORMAT;
pub use index::{BundleEntry, BundleEntryKind, BundleIndex};
pub use pack::{pack_to_folder, pack_to_folders, pack_to_stream};
pub use pack_folders::{BundleFilePreview, FolderRequest, FolderSupply, preview_pack};
pub use pack_plan::{BundleContents, BundleFileSize, BundleName, PackPlan, PlannedBundleFile};
pub use pack_report::{PackAction, PackReport, PackedBundleFile, Recheck};
pub use plan::plan_files;
pub use read_at::ReadAt;
pub use verify::{BundleFileDamage, BundleFileVerification, EntryPart, verify_file};
