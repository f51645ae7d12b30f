//! The parsed `index.json` of an open store, kept as long as the file is the same: a load of ten
//! thousand roots asks ten thousand times what the store has.

use std::fs::Metadata;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::FileStamp;
use crate::layout::LayoutIndex;

/// A file that was changed so shortly before it was read is read again: a change that comes a moment
/// later may leave the same time, length and inode (file systems keep times in steps of a few
/// milliseconds). git has the same rule for its index. [`FileStamp::is_settled`] waits for the coarse
/// clocks of media and would not hold for as long as a load writes.
const UNSETTLED: Duration = Duration::from_millis(50);

/// The index that was read or written last.
#[derive(Debug, Default)]
pub(crate) struct IndexCache(Mutex<Option<CachedIndex>>);

#[derive(Debug)]
struct CachedIndex {
    stamp: FileStamp,
    index: Arc<LayoutIndex>,
}

impl IndexCache {
    /// The index of the file with this stamp.
    pub(crate) fn find_index(&self, stamp: &FileStamp) -> Option<Arc<LayoutIndex>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached
            .as_ref()
            .filter(|cached| cached.stamp == *stamp)
            .map(|cached| Arc::clone(&cached.index))
    }

    /// Keeps what was read from the file that has this metadata.
    pub(crate) fn keep_index(&self, metadata: &Metadata, index: &Arc<LayoutIndex>) {
        let age =
            metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        let is_settled = age.is_some_and(|age| age > UNSETTLED);
        let cached = is_settled.then(|| CachedIndex {
            stamp: FileStamp::from_metadata(metadata),
            index: Arc::clone(index),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cached;
    }
}
