//! The content-addressed store, and the two traits through which blobs move.
//!
//! A [`Source`] gives blobs (a store folder, the volumes of a bundle), a [`Sink`] takes roots with
//! all that they need (a store folder, a registry). Both are small and state what every
//! implementation guarantees.

mod error;
pub mod progress;
mod sink;
mod source;

pub use error::{Error, Result};
pub use sink::{Put, Sink};
pub use source::{Reader, Source, document};
