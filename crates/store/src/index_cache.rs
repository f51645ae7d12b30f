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
    /// The index of the file with this metadata; `read` reads it where it is not the one that was read
    /// last, and returns it with the metadata of the file that it read. Whoever asks meanwhile waits:
    /// a load asks from many threads at once, and reading once is enough.
    pub(crate) fn find_or_read<E>(
        &self,
        metadata: &Metadata,
        read: impl FnOnce() -> Result<Option<(Metadata, LayoutIndex)>, E>,
    ) -> Result<Option<Arc<LayoutIndex>>, E> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = FileStamp::from_metadata(metadata);
        if let Some(found) = cached.as_ref().filter(|cached| cached.stamp == stamp) {
            return Ok(Some(Arc::clone(&found.index)));
        }
        *cached = None;
        let Some((metadata, index)) = read()? else { return Ok(None) };
        let index = Arc::new(index);
        let age =
            metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > UNSETTLED) {
            let stamp = FileStamp::from_metadata(&metadata);
            *cached = Some(CachedIndex { stamp, index: Arc::clone(&index) });
        }
        Ok(Some(index))
    }
}
