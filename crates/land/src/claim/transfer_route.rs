//! How the content of models got into a claim, for reports.

use serde::{Deserialize, Serialize};

/// Where the bytes came from that were written to a volume.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TransferRoute {
    /// No bytes had to be moved.
    None,
    /// All from the registry or the depot.
    Registry,
    /// All through the API server, from the process that started the pod.
    Api,
    /// Some from the registry or the depot, some through the API server.
    Both,
}
