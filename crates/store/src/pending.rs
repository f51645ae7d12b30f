//! Names that are published one after the other, as a load does: `index.json` is written at bounded
//! intervals and at the end, not once for each of them. With ten thousand roots, writing it each time
//! would write ten thousand times ten thousand entries.
//!
//! A kill loses the names of the last second, no content: the next load finds every blob in place and
//! only writes the names.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use types::Root;

/// A name is kept back for this long at most while others follow. Readers see it soon, and a load of a
/// thousand small images writes the index a few times.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Writing a large index takes a while on a slow disk. It may take a twentieth of the time.
const COST_FACTOR: u32 = 20;

/// The roots whose names are not written yet.
#[derive(Debug, Default)]
pub(crate) struct PendingRoots(Mutex<PendingState>);

#[derive(Debug, Default)]
struct PendingState {
    roots: Vec<Root>,
    /// When the names may be written next; `None` before the first one is kept back.
    due: Option<Instant>,
}

impl PendingRoots {
    /// Adds a root. Returns whether the names are to be written now.
    pub(crate) fn add_root(&self, root: Root) -> bool {
        let mut state = self.state();
        state.roots.push(root);
        let due = *state.due.get_or_insert_with(|| Instant::now() + LONGEST_WAIT);
        Instant::now() >= due
    }

    /// Takes all roots, to be written now.
    pub(crate) fn take_roots(&self) -> Vec<Root> {
        let mut state = self.state();
        // Not due again while the index is written: other threads go on meanwhile.
        state.due = Some(Instant::now() + LONGEST_WAIT);
        std::mem::take(&mut state.roots)
    }

    /// Puts roots back whose names could not be written.
    pub(crate) fn put_back(&self, roots: Vec<Root>) {
        let mut state = self.state();
        // Before those that were added meanwhile: of two roots with one name the last one counts.
        state.roots.splice(0..0, roots);
    }

    /// How long writing the names has taken, on which the next time depends.
    pub(crate) fn set_cost(&self, cost: Duration) {
        self.state().due = Some(Instant::now() + LONGEST_WAIT.max(cost * COST_FACTOR));
    }

    fn state(&self) -> MutexGuard<'_, PendingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
