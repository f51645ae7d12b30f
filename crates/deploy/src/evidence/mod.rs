//! Collects what an auditor wants to see in one archive: what was transferred and where it came
//! from, licences, signatures, software bills of materials (SBOMs), whether model files can run
//! code, and the reports of `relocate`, `check` and `audit`. It has an HTML page to read, and a
//! signed index with the digest of every file.
//!
//! Data flow: [`gather_evidence`] reads the locks and the content of a store or bundle,
//! [`GatheredEvidence::write`] writes an archive or a folder, and [`verify_evidence`] checks one
//! later.

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
