//! The result of a relocation.

use std::collections::BTreeSet;

use types::Reference;

use crate::find::ManifestLocation;
use crate::manifest::Manifests;
use crate::path::DocumentPath;
use crate::proof::relocation_proof::RelocationProof;

/// The result for one chart: its overlay, and what the overlay was proven to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Relocation {
    /// The overlay, a values file with comments. The proof was made with exactly this text.
    pub overlay: String,
    /// The values that the overlay sets, and the images that each of them moves.
    pub lines: Vec<RelocatedValue>,
    /// What a render with the overlay shows.
    pub proof: RelocationProof,
    /// The reason for each image that was not moved, in the order of `proof.stayed`.
    pub reasons: Vec<String>,
    /// The documents that pull from the site and that get the pull secret by no value of the
    /// chart; their service account needs the secret instead.
    pub without_secret: Vec<ManifestLocation>,
    /// What was requested beside the images (pull policy, pull secret) and could not be set.
    pub notes: Vec<String>,
    /// How often the chart was rendered.
    pub renders: usize,
    /// What the chart renders to without the overlay.
    pub rendered: Manifests,
}

/// One value of the overlay, with the images that it moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelocatedValue {
    /// The path of the value: `app.image.registry`.
    pub path: DocumentPath,
    /// The text that it is set to.
    pub text: String,
    /// The images that it moves, by their original names.
    pub moves: BTreeSet<Reference>,
}
