//! What is measured of one chart, and what it may take.

use chart::relocate::ProofVerdict;

use super::ground::MeasuredChartKind;
use super::reasons::ReasonCheck;

/// Runs of each measurement; the median is shown. A debug build measures nothing of use.
pub(super) const RUNS: usize = if cfg!(debug_assertions) { 1 } else { 3 };

/// What find may take, in renders of the same chart.
pub(super) const LIMIT_FIND: f64 = 1.5;

/// What moving and proving may take, in renders of the same chart.
pub(super) const LIMIT_MOVE: f64 = 4.0;

/// How long something takes: in seconds, or in times one `helm template` of the same chart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// By the clock.
    pub(super) clock: f64,
    /// By the CPU time of all processes.
    pub(super) cpu: f64,
}

impl Cost {
    /// The greater of the two.
    pub(super) fn greater(self) -> f64 {
        self.clock.max(self.cpu)
    }
}

/// The pods of a chart that pull from the site.
#[derive(Debug, Default)]
pub(super) struct SecretRow {
    /// All of them.
    pub(super) pods: usize,
    /// Those that get the pull secret by the overlay.
    pub(super) with: usize,
    /// Those that do not, although a value gives it to them; with the value.
    pub(super) missed: Vec<String>,
    /// What is wrong with the overlay that sets the secret.
    pub(super) lost: Vec<String>,
}

/// What was measured of one chart.
pub(super) struct Row {
    pub(super) origin: MeasuredChartKind,
    pub(super) name: String,
    /// Gantry's own line about the chart.
    pub(super) summary: String,
    pub(super) found: [usize; 3],
    pub(super) places: usize,
    pub(super) moved: usize,
    pub(super) stayed: Vec<String>,
    pub(super) reasons: ReasonCheck,
    pub(super) secrets: SecretRow,
    pub(super) lines: usize,
    pub(super) verdict: ProofVerdict,
    pub(super) post_rendered: ProofVerdict,
    /// What the plain scan sees and Gantry does not say.
    pub(super) refuted: Vec<String>,
    /// One render, in seconds.
    pub(super) helm: f64,
    /// Find, and move and prove.
    pub(super) find: Cost,
    pub(super) relocate: Cost,
    /// What find takes without the renders, in seconds.
    pub(super) own: f64,
    pub(super) renders: usize,
}

impl Row {
    /// Everything that is wrong with what Gantry says of the chart.
    pub(super) fn faults(&self) -> Vec<String> {
        let scan = self.refuted.iter().map(|seen| format!("the plain scan sees {seen}"));
        let reasons =
            self.reasons.refuted.iter().map(|why| format!("the reason is not true: {why}"));
        let secrets =
            self.secrets.missed.iter().map(|pod| format!("a value gives the secret to {pod}"));
        let verdict =
            (self.verdict == ProofVerdict::Refuted).then(|| "the proof is refuted".to_owned());
        let lost = self.secrets.lost.iter().cloned();
        verdict.into_iter().chain(scan).chain(reasons).chain(secrets).chain(lost).collect()
    }
}
