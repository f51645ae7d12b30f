//! The content-addressed store, and the two traits through which blobs move.
//!
//! A [`Source`] reads blobs (from a store folder or the files of a bundle), a [`Sink`] receives roots
//! with everything they need (a store folder, a registry). Both traits are small and state what every
//! implementation guarantees; `suite` checks it.
//!
//! In the data flow: `fetch` writes blobs into a [`Store`], `pack` reads them from it, `load` copies
//! from any source to any sink.

mod add;
mod closure;
pub mod disk;
mod error;
mod folder;
mod gc;
pub mod hash;
pub mod layout;
mod lock;
mod names;
pub mod progress;
mod read;
mod receive;
mod reflink;
mod sink;
mod source;
pub mod space;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod verify;
mod writer;

pub use closure::{Closure, closure};
pub use error::{Error, Result};
pub use folder::Store;
pub use gc::{Collected, GcMode};
pub use lock::Session;
pub use sink::{Moved, Put, Sink};
pub use source::{Reader, Source, document};
pub use verify::{BrokenRoot, Damage, Damaged, Fault, Verification};
pub use writer::{Begin, Writer};
