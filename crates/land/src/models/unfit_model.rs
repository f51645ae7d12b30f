//! A model or file that a layout cannot hold.

use serde::{Deserialize, Serialize};

/// A model that the layout of a target cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UnfitModel {
    /// Its name.
    pub name: String,
    /// Why not, and which layouts can.
    pub reason: String,
}
