//! Helm: finds charts in repositories, registries, folders and archives, stores them as OCI
//! artifacts, and runs the helm program to render charts and to manage releases in a cluster.

mod archive;
mod artifact;
mod binary;
mod dependencies;
mod files;
mod ignore;
mod in_cluster;
mod index;
mod metadata;
mod oci;
mod package;
pub(crate) mod process;
pub mod record;
mod repository;
mod set_arguments;
mod set_expression;
pub mod version;
mod yaml;

pub use archive::{ChartArchive, MAX_ARCHIVE};
pub use artifact::{ChartArtifact, store_chart_artifact};
pub use binary::{DEFAULT_KUBE_VERSION, HelmBinary, ReleaseSpec};
pub use files::{read_archive_files, read_chart_files};
pub use in_cluster::{HelmClient, HookPolicy, PostRenderer, ReleaseInstall};
pub use index::{RepositoryChart, RepositoryIndex};
pub use metadata::ChartMetadata;
pub use oci::{RegistryChart, download_archive, import_chart_from_registry, read_archive};
pub use package::{package_chart, package_incomplete_chart, read_chart_metadata};
pub use process::{GO_SETTINGS, HelmStop};
pub use repository::{ChartRepository, derive_artifact_repository};
pub use set_arguments::rewrite_set_file_paths;
