//! The content-addressed store, and the two traits through which blobs move.
//!
//! A [`Source`] gives blobs (a store folder, the volumes of a bundle), a [`Sink`] takes roots with
//! all that they need (a store folder, a registry). Both are small and state what every
//! implementation guarantees.

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
