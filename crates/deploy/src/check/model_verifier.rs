//! A target of `site.yaml` where models should be, and how its content is verified.

use std::sync::Arc;

use cluster::Cluster;
use futures::future::LocalBoxFuture;

/// A target where models should be.
#[derive(Clone)]
pub struct CheckedModelTarget {
    /// Its address as in `site.yaml`: `/srv/models`, `s3://…`, `pvc://…`.
    pub name: String,
    /// The locked models that should be there, by their usual names (`org/name`).
    pub wanted: Vec<String>,
    /// How its content is verified.
    pub verifier: TargetVerifier,
}

/// Verifies a target from inside the cluster, where it is mounted or reachable.
pub type InClusterVerifier =
    dyn Fn(Cluster) -> LocalBoxFuture<'static, Result<ModelVerification, String>> + Send + Sync;

/// How the content of a target is verified.
#[derive(Clone)]
pub enum TargetVerifier {
    /// By reading every file from this machine. Blocks.
    Local(Arc<dyn Fn() -> Result<ModelVerification, String> + Send + Sync>),
    /// By reading every file in a pod.
    InCluster(Arc<InClusterVerifier>),
    /// Not at all, with the reason.
    Unavailable(String),
}

/// What was found at a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelVerification {
    /// The names of the models that were stored there.
    pub models: Vec<String>,
    /// The number of bytes that were read.
    pub bytes: u64,
    /// The files that differ from what was stored, each with the difference.
    pub bad: Vec<String>,
}
