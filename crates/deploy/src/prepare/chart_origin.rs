//! The places inside the air gap that charts are taken from.

/// Where a chart was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChartOrigin {
    /// In the bundle files or the store that the user named.
    Given,
    /// In the site's registry.
    Registry,
}
