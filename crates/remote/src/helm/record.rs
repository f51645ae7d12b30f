//! Helm's records of releases in the cluster: one Secret for each revision, with the release as
//! JSON, gzipped and base64-encoded (helm 3.22 and 4, `pkg/storage/driver/util.go`). They are the
//! only state of a deploy. Gantry reads them, and rewrites one before an uninstall, so that helm
//! keeps the volume claims that are listed in it.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::Value;
use types::Cause;

use super::process::MAX_RENDER;
use crate::{Error, Result};

/// The key in the Secret's data.
pub const KEY: &str = "release";

/// One revision of a release.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "ReleaseRecord")]
pub struct ReleaseRevision {
    /// The release's name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The revision's number, from 1.
    pub number: u32,
    /// Its status.
    pub status: ReleaseStatus,
    /// helm's message about its outcome.
    pub description: String,
    /// The chart's name.
    pub chart: String,
    /// The chart's version.
    pub version: String,
    /// The values that the user gave, merged.
    pub values: Value,
    /// The objects without hooks, as one YAML stream.
    pub manifest: String,
    /// The hooks.
    pub hooks: Vec<ReleaseHook>,
}

/// A hook of a release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReleaseHook {
    /// The object's kind.
    #[serde(default)]
    pub kind: String,
    /// The object's name.
    #[serde(default)]
    pub name: String,
    /// The path of its template.
    #[serde(default)]
    pub path: String,
    /// The object as YAML.
    #[serde(default)]
    pub manifest: String,
}

/// The status of a revision (`pkg/release/common/status.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStatus {
    /// It is the current revision.
    Deployed,
    /// A later revision replaced it.
    Superseded,
    /// Its install or upgrade failed.
    Failed,
    /// An install is in progress, or was killed.
    PendingInstall,
    /// An upgrade is in progress, or was killed.
    PendingUpgrade,
    /// A rollback is in progress, or was killed.
    PendingRollback,
    /// An uninstall is in progress, or was killed.
    Uninstalling,
    /// It was uninstalled, and its record was kept as history.
    Uninstalled,
    /// Any other status.
    #[serde(other)]
    Unknown,
}

impl ReleaseStatus {
    /// Whether a helm command is in progress on it, or was killed: the record alone cannot say
    /// which.
    pub fn is_unfinished(self) -> bool {
        use ReleaseStatus as S;
        matches!(self, S::PendingInstall | S::PendingUpgrade | S::PendingRollback | S::Uninstalling)
    }
}

impl ReleaseRevision {
    /// Parses a revision from the output of `helm … --output json`. `what` is its name in errors.
    pub fn parse(what: &str, json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|cause| damaged_record(what, Cause::from_error(cause)))
    }

    /// Decodes a revision from a Secret's data under [`KEY`]. `what` is its name in errors.
    pub fn decode(what: &str, data: &[u8]) -> Result<Self> {
        Self::parse(what, &unpack_record(what, data)?)
    }
}

/// Replaces documents in the manifest of a record. `change` is called for each document, and
/// returns its new text, or `None` to keep it. Returns the new data of the Secret, or `None` when
/// nothing was changed. All other fields of the record are kept.
pub fn replace_documents(
    what: &str,
    data: &[u8],
    change: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Vec<u8>>> {
    let mut release: Value = serde_json::from_str(&unpack_record(what, data)?)
        .map_err(|cause| damaged_record(what, Cause::from_error(cause)))?;
    let manifest = release.get("manifest").and_then(Value::as_str).unwrap_or_default();
    let mut is_changed = false;
    let documents: Vec<String> = manifest
        // As text, not as YAML: documents that are not changed must keep every byte.
        .split("\n---")
        .map(|document| {
            change(document).map_or_else(
                || document.to_owned(),
                |text| {
                    is_changed = true;
                    format!("\n{text}")
                },
            )
        })
        .collect();
    if !is_changed {
        return Ok(None);
    }
    let changed = documents.join("\n---");
    if let Some(fields) = release.as_object_mut() {
        fields.insert("manifest".to_owned(), Value::String(changed));
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packed
        .write_all(release.to_string().as_bytes())
        .and_then(|()| packed.finish())
        .map_err(|cause| damaged_record(what, Cause::from_error(cause)))?;
    Ok(Some(STANDARD.encode(packed).into_bytes()))
}

/// Decodes base64 and gzip.
fn unpack_record(what: &str, data: &[u8]) -> Result<String> {
    let packed =
        STANDARD.decode(data).map_err(|cause| damaged_record(what, Cause::from_error(cause)))?;
    let mut text = String::new();
    GzDecoder::new(packed.as_slice())
        // A small Secret can unpack to gigabytes.
        .take(MAX_RENDER)
        .read_to_string(&mut text)
        .map_err(|cause| damaged_record(what, Cause::from_error(cause)))?;
    Ok(text)
}

fn damaged_record(what: &str, reason: Cause) -> Error {
    let text = format!("helm's record of the release cannot be read: {reason}");
    Error::Damaged { what: what.to_owned(), reason: reason.with_text(text) }
}

/// The release as helm writes it; only the fields that are read here.
#[derive(Deserialize)]
struct ReleaseRecord {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    version: u32,
    info: ReleaseRecordInfo,
    #[serde(default)]
    chart: ReleaseRecordChart,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    hooks: Option<Vec<ReleaseHook>>,
}

#[derive(Deserialize)]
struct ReleaseRecordInfo {
    status: ReleaseStatus,
    #[serde(default)]
    description: String,
}

#[derive(Default, Deserialize)]
struct ReleaseRecordChart {
    #[serde(default)]
    metadata: ReleaseRecordChartMetadata,
}

#[derive(Default, Deserialize)]
struct ReleaseRecordChartMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

impl From<ReleaseRecord> for ReleaseRevision {
    fn from(raw: ReleaseRecord) -> Self {
        let ReleaseRecord { name, namespace, version, info, chart, config, manifest, hooks } = raw;
        let ReleaseRecordInfo { status, description } = info;
        let ReleaseRecordChart { metadata } = chart;
        Self {
            name,
            namespace,
            number: version,
            status,
            description,
            chart: metadata.name,
            version: metadata.version,
            values: if config.is_null() { Value::Object(serde_json::Map::new()) } else { config },
            manifest,
            hooks: hooks.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pack_record(manifest: &str) -> Vec<u8> {
        let release = serde_json::json!({
            "name": "r", "version": 2, "namespace": "n", "info": {"status": "pending-upgrade"},
            "chart": {"metadata": {"name": "c", "version": "1.0.0"}}, "config": null,
            "manifest": manifest, "hooks": null});
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(release.to_string().as_bytes()).unwrap();
        STANDARD.encode(gzip.finish().unwrap()).into_bytes()
    }

    #[test]
    fn a_record_is_read_and_written_with_another_document() {
        let data = pack_record("---\nkind: A\n---\nkind: B\n");
        let change = |document: &str| document.contains("kind: B").then(|| "kind: C\n".to_owned());

        let read = ReleaseRevision::decode("x", &data).unwrap();
        let written = replace_documents("x", &data, &change).unwrap().unwrap();

        assert_eq!(
            (read.number, read.status, read.chart.as_str()),
            (2, ReleaseStatus::PendingUpgrade, "c")
        );
        assert!(read.status.is_unfinished());
        let again = ReleaseRevision::decode("x", &written).unwrap();
        assert_eq!(again.manifest, "---\nkind: A\n---\nkind: C\n");
        assert_eq!(replace_documents("x", &data, &|_| None).unwrap(), None);
        assert!(ReleaseRevision::decode("x", b"nonsense").is_err());
    }
}
