//! `gantry.lock`: the input resolved to digests. Sorted and stable: locking the same content again
//! writes the same bytes. The format is described in `docs/formats/lock.md`.

mod content;
mod document;
mod image_reason;
mod mention;
mod request;

pub use content::{BlobOrigin, LockedBlob};
pub use document::{
    Blob, EMPTY, ImageOrigin, Lock, LockedAttachment, LockedChart, LockedFile, LockedHubModel,
    LockedImage, LockedManifest, LockedManifestSet, LockedModel, LockedModelFile,
    LockedOllamaModel, LockedUrlModel, ModelOrigin, VERSION,
};
pub use image_reason::ImageReason;
pub use mention::ImageMention;
pub use request::{InputChange, LockedRequest};
