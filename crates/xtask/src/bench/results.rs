//! All that is measured, as the report shows it.

use std::collections::BTreeMap;

use super::measure::Sample;
use super::tool::{Step, Tool};
use super::{extra, machine, serve};

/// Every sample of a tool's step, in the order of the rounds.
pub(super) type Samples = BTreeMap<(Step, Tool), Vec<Sample>>;

/// All that was measured.
pub(super) struct Results {
    pub(super) machine: machine::Machine,
    pub(super) rounds: usize,
    /// Images, different blobs and their bytes.
    pub(super) corpus: (usize, usize, u64),
    pub(super) samples: Samples,
    pub(super) kills: Vec<extra::Kill>,
    pub(super) starts: Vec<extra::Start>,
    pub(super) served: Vec<serve::ServedBlob>,
    pub(super) large: Vec<(&'static str, Sample)>,
    /// What was typed for one image, by tool and step.
    pub(super) typed: Vec<(Tool, Step, String)>,
}
