//! Helm: finds charts in repositories, registries, folders and archives, stores them as OCI
//! artifacts, and runs the helm program to render charts and to manage releases in a cluster.

mod archive;
mod artifact;
mod binary;
mod files;
mod ignore;
mod in_cluster;
mod index;
mod metadata;
mod oci;
mod package;
mod process;
pub mod record;
mod repository;
pub mod version;
mod yaml;

pub use archive::{Archive, MAX_ARCHIVE};
pub use artifact::{Artifact, artifact};
pub use binary::{Binary, DEFAULT_KUBE_VERSION, Release};
pub use files::{files, files_of};
pub use in_cluster::{Hooks, InCluster, Install, PostRenderer};
pub use index::{Chart, Index};
pub use metadata::Metadata;
pub use oci::{OciChart, archive_at, archive_in, from_registry};
pub use package::package;
pub use process::{GARBAGE, Stop};
pub use repository::{Repository, artifact_repository};
