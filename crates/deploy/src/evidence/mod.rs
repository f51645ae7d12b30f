//! What an auditor asks for, in one archive: what was carried and where it came from, licences,
//! signatures, bills of materials, what the models' files are, and the reports of what was proven
//! and checked; with a page to read and a signed index of every part's digest.
//!
//! The way of the data: [`gather`] looks through locks and a source and takes reports as they are,
//! [`Evidence::write`] writes them as one archive or a folder, [`verify`] proves one long after.

mod archive;
mod charts;
mod error;
mod form;
mod gather;
mod images;
mod index;
mod models;
mod page;
mod part;
pub mod pickle;
mod sign;
mod verify;

pub use archive::Target;
pub use error::{Error, Result};
pub use form::{Form, Looked, Member};
pub use gather::{Document, Evidence, Request, gather};
pub use index::{Chart, File, Finding, Image, Index, Model, Report, Weight};
pub use part::{Part, PartKind};
pub use sign::{Key, Trusted};
pub use verify::{Signature, Verified, verify};
