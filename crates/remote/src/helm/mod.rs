//! Helm: charts from repositories, folders and archives, the OCI artifact that a chart is in a
//! store, and the helm program that renders it.

mod archive;
mod artifact;
mod binary;
mod files;
mod ignore;
mod index;
mod metadata;
mod oci;
mod package;
mod repository;
pub mod version;
mod yaml;

pub use archive::{Archive, MAX_ARCHIVE};
pub use artifact::{Artifact, artifact};
pub use binary::{Binary, DEFAULT_KUBE_VERSION, GARBAGE, Release};
pub use files::{files, files_of};
pub use index::{Chart, Index};
pub use metadata::Metadata;
pub use oci::{OciChart, from_registry};
pub use package::package;
pub use repository::{Repository, artifact_repository};
