//! Collects what an auditor wants to see in one archive: what was transferred and where it came
//! from, licences, signatures, software bills of materials (SBOMs), whether model files can run
//! code, and the reports of `relocate`, `check` and `audit`. It has an HTML page to read, and a
//! signed index with the digest of every file.
//!
//! Data flow: [`gather_evidence`] reads the locks and the content of a store or bundle,
//! [`GatheredEvidence::write`] writes an archive or a folder, and [`verify_evidence`] checks one
//! later.

mod archive;
mod changes_page;
mod charts;
mod document;
mod error;
mod file_format;
mod gather;
mod gatherer;
mod images;
mod index;
mod models;
mod page;
mod part;
mod pickle;
mod sign;
mod verify;

pub use archive::EvidenceTarget;
pub use changes_page::render_changes_page;
pub use document::EvidenceDocument;
pub use error::{Error, Result};
pub use file_format::{FileInspection, ModelFileFormat, PickleMember};
pub use gather::{EvidenceInput, GatheredEvidence, gather_evidence};
pub use index::{
    ChartEvidence, EvidenceFinding, EvidenceIndex, ImageEvidence, ModelEvidence, ModelFileEvidence,
    ReportEvidence, Severity,
};
pub use part::{EvidencePart, EvidencePartKind};
pub use pickle::{ImportDanger, PickleContents, PickleImport, read_pickles};
pub use sign::{SigningKey, TrustedKey};
pub use verify::{SignatureStatus, VerifiedEvidence, verify_evidence};
