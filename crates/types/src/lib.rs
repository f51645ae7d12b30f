//! The words of Gantry as types: references, digests, platforms, descriptors, the input, the lock,
//! the site and the receipt. Floor 0: everything here is parsed or printed, nothing is read from a
//! disk or a network, and nothing is async. A value of one of these types is valid by its making
//! (parse, don't validate).

pub mod annotation;
pub mod config;
pub mod descriptor;
pub mod destination;
mod digest;
mod error;
mod hub;

pub mod input;
pub mod lock;
pub mod media_type;
pub mod naming;
pub mod own_image;

mod platform;
pub mod receipt;
mod reference;
pub mod site;
mod size;
pub mod snapshot;
mod text;
pub mod yaml;

pub use descriptor::{Descriptor, Index, Kind, Manifest, Root};
pub use digest::Digest;
pub use error::{Error, Result};
pub use hub::{Commit, GitId, ModelId};
pub use platform::Platform;
pub use reference::Reference;
pub use size::ByteSize;
