//! The names and labels by which Gantry recognises its own objects and releases.

/// The value of the label `gantry.dev/part` on objects that this module creates.
pub(super) const PART: &str = "release";
/// The name of the ConfigMap and the Secret that hold the site's CA certificate.
pub const CA: &str = "gantry-ca";
/// The label (key, value) on helm's release records that marks a release as installed by Gantry.
pub(super) const LABEL: (&str, &str) = ("gantry.dev/part", PART);

/// The labels (`key=value`) that helm is to put on its records of Gantry's releases.
pub fn release_labels() -> Vec<String> {
    let (key, value) = LABEL;
    vec![format!("{key}={value}")]
}
