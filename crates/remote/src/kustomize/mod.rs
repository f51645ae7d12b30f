//! Kustomizations: they are checked, and then built by `kustomize` or `kubectl`. What is built must be the
//! same wherever it is built, so a kustomization that fetches something (a remote base) or runs
//! something (a plugin, helm) is refused before the program is started.

mod binary;
mod files;

pub use binary::KustomizeBinary;
pub use files::{find_kustomization_file, list_kustomization_files};
