//! The namespace of the audit's helpers.

/// Its name.
pub const NAMESPACE: &str = "gantry-audit";
/// The component of Gantry that made the objects in it, for their labels.
pub(crate) const PART: &str = "audit";
