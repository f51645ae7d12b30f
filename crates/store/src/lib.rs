//! The content-addressed store, and the two traits through which blobs move.
//!
//! A [`Source`] reads blobs (from a store folder or the files of a bundle), a [`Sink`] receives roots
//! with everything they need (a store folder, a registry). Both traits are small and state what every
//! implementation guarantees; `testkit::store_suite` checks it.
//!
//! In the data flow: `fetch` writes blobs into a [`Store`], `pack` reads them from it, `load` copies
//! from any source to any sink.

mod add;
mod closure;
pub mod confined;
pub mod disk;
mod error;
mod file_stamp;
mod folder;
mod gc;
pub mod hash;
mod index_cache;
pub mod layout;
mod lock;
mod lookups;
mod names;
mod pending;
pub mod progress;
mod reflink;
mod sink;
mod source;
pub mod space;
mod store_sink;
mod store_source;
mod verify;
mod writer;

pub use closure::{RootClosure, find_closure};
pub use error::{Error, Result};
pub use file_stamp::{BlobFile, FileStamp};
pub use folder::Store;
pub use gc::{DEFAULT_GARBAGE_AGE, GarbageMode, GarbageReport};
pub use lock::StoreSession;
pub use sink::{PutResult, Sink, TransferCallback};
pub use source::{Source, SourceReader, read_blob};
pub use verify::{BlobFault, BrokenRoot, DamagePolicy, DamagedBlob, StoreVerification};
pub use writer::{WriteStart, Writer};
