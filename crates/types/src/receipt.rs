//! The receipt: a list of what one target holds after a load, and the base of the next delta bundle.
//! The format is described in `docs/formats/receipt.md`.

use serde::{Deserialize, Serialize};

use crate::lock::Blob;
use crate::{Cause, Digest, Error, Reference, Result, RootKind};

/// The version of the receipt format.
pub const VERSION: u32 = 1;

/// All content of one target after a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Receipt {
    /// The version of the format: 1.
    pub version: u32,
    /// The target, as it was given to `load`.
    pub target: String,
    /// The roots, sorted by name.
    pub roots: Vec<ReceiptRoot>,
    /// Every blob, manifests included, sorted by digest.
    pub blobs: Vec<Blob>,
    /// The manifests that the target does not take, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ReceiptOmission>,
}

/// A manifest that a target does not take: an attestation in an index, or what is attached to an
/// image.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReceiptOmission {
    /// The name at its source of the root that it is, or is part of.
    pub name: Reference,
    /// Its digest.
    pub digest: Digest,
}

/// A root that a target holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReceiptRoot {
    /// The root's name at its source.
    pub name: Reference,
    /// Whether it is an image, a chart, a model, …
    pub kind: RootKind,
    /// Its digest at its source.
    pub digest: Digest,
    /// Its name at the target.
    pub target: String,
    /// The digest at the target where it is different: an index that had to be rewritten for a
    /// registry that refuses sparse indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<Digest>,
}

impl Receipt {
    /// A receipt in the format's order.
    pub fn new(target: String, mut roots: Vec<ReceiptRoot>, mut blobs: Vec<Blob>) -> Self {
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        // Roots share blobs, and a receipt lists each once.
        blobs.sort();
        blobs.dedup();
        Self { version: VERSION, target, roots, blobs, left_out: vec![] }
    }

    /// The same, without what the target does not take.
    #[must_use]
    pub fn without(mut self, mut left_out: Vec<ReceiptOmission>) -> Self {
        left_out.sort();
        let is_left_out =
            |digest: &Digest| left_out.iter().any(|omitted| omitted.digest == *digest);
        self.roots.retain(|root| !is_left_out(&root.digest));
        self.blobs.retain(|blob| !is_left_out(&blob.digest));
        self.left_out = left_out;
        self
    }

    /// Whether the target holds this root: it has the name, with the digest that the source has.
    pub fn holds(&self, name: &Reference, digest: &Digest) -> bool {
        self.roots.iter().any(|root| root.name == *name && root.digest == *digest)
    }

    /// The receipt as JSON, the same for the same content.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|cause| Error::Document {
            document: "receipt".into(),
            line: 0,
            column: 0,
            message: cause.into(),
        })?;
        text.push('\n');
        Ok(text)
    }

    /// Reads a receipt. `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let error = |line: usize, column: usize, message: Cause| Error::Document {
            document: name.to_owned(),
            line: line as u64,
            column: column as u64,
            message,
        };
        let receipt: Self = serde_json::from_str(text).map_err(|cause| {
            error(cause.line(), cause.column(), Cause::about("not a valid receipt", cause))
        })?;
        if receipt.version != VERSION {
            return Err(error(
                0,
                0,
                format!(
                    "receipt version {} is not supported; this gantry reads version {VERSION}",
                    receipt.version
                )
                .into(),
            ));
        }
        Ok(receipt)
    }
}
