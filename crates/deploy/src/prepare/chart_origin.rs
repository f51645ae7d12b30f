//! The places inside the air gap that charts and manifests are taken from.

/// Where a chart or a set of manifests was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChartOrigin {
    /// In the bundle files or the store that the user named.
    Given,
    /// In the site's registry.
    Registry,
}
