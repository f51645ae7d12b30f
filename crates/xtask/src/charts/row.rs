//! What is measured of one chart, and what it may take.

use chart::relocate::ProofVerdict;

/// Runs of each measurement; the median is shown.
pub(super) const RUNS: usize = 5;

/// What find may take, in renders of the same chart.
pub(super) const LIMIT_FIND: f64 = 1.5;

/// What moving and proving may take, in renders of the same chart.
pub(super) const LIMIT_MOVE: f64 = 4.0;

/// What was measured of one chart.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) found: [usize; 3],
    pub(super) places: usize,
    pub(super) moved: usize,
    pub(super) stayed: Vec<String>,
    pub(super) lines: usize,
    pub(super) verdict: ProofVerdict,
    pub(super) post_rendered: ProofVerdict,
    /// What the plain scan sees and Gantry does not say.
    pub(super) refuted: Vec<String>,
    /// One render, in seconds.
    pub(super) helm: f64,
    /// Find and move, in renders.
    pub(super) find: f64,
    pub(super) relocate: f64,
    /// What find takes without the renders, in seconds.
    pub(super) own: f64,
    pub(super) renders: usize,
}
