//! The names of roots in a store: reading and changing `index.json`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use types::{Digest, Reference, Root};

use crate::layout::{self, LayoutIndex};
use crate::{Error, Result, Store, find_closure};

impl Store {
    /// Gives the roots their names; another root that had the name loses it. All of them become visible
    /// in one step. The store must have every blob that they need (see [`find_closure`]).
    pub fn publish_roots(&self, roots: &[Root]) -> Result<()> {
        let _session = self.keep_session()?;
        for root in roots {
            find_closure(self, root)?;
        }
        self.change_index(|index| {
            index.put_roots(roots);
            Ok(())
        })
    }

    /// Removes the names; the blobs stay until [`Store::collect_garbage`]. If one of the names does not
    /// exist, that is an error and nothing is changed.
    pub fn unpublish_roots(&self, names: &[Reference]) -> Result<()> {
        let folder = self.folder_name();
        self.change_index(|index| {
            for name in names {
                if !index.remove_root(name, &folder) {
                    return Err(Error::RootMissing {
                        name: Box::new(name.clone()),
                        path: self.path().into(),
                    });
                }
            }
            Ok(())
        })
    }

    /// All roots, sorted by name. Entries of other tools that have no full name get one:
    /// `localhost/FOLDER:TAG`.
    pub fn roots(&self) -> Result<Vec<Root>> {
        Ok(self.read_index()?.roots(&self.folder_name()))
    }

    /// Whether the store has the name, with this digest.
    pub fn names_root(&self, name: &Reference, digest: Digest) -> Result<bool> {
        Ok(self.read_index()?.names_digest(name, digest, &self.folder_name()))
    }
}

// === inside the crate ===

impl Store {
    pub(crate) fn read_index(&self) -> Result<Arc<LayoutIndex>> {
        // A layout without an index is empty: its creation was interrupted.
        let empty = || Arc::new(LayoutIndex::empty());
        let metadata = match self.folder().read_metadata(layout::INDEX) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(empty()),
            Err(cause) => return Err(self.read_error(layout::INDEX, cause)),
        };
        let index = self.index_cache().find_or_read(&metadata, || {
            let Some((file, bytes)) = self.read_document(layout::INDEX, layout::MAX_INDEX)? else {
                return Ok(None);
            };
            let name = self.path().join(layout::INDEX).display().to_string();
            let index = LayoutIndex::parse(&name, &bytes)?;
            let metadata =
                file.metadata().map_err(|cause| self.read_error(layout::INDEX, cause))?;
            Ok::<_, Error>(Some((metadata, index)))
        })?;
        Ok(index.unwrap_or_else(empty))
    }

    /// Changes `index.json` in one step, with an exclusive lock among all processes.
    pub(crate) fn change_index(
        &self,
        change: impl FnOnce(&mut LayoutIndex) -> Result<()>,
    ) -> Result<()> {
        let _session = self.keep_session()?;
        self.make_folders()?;
        let _lock = self.lock_index()?;
        let mut index = Arc::unwrap_or_clone(self.read_index()?);
        change(&mut index)?;
        // An unchanged index is not written: every run of fetch and load publishes again what is there,
        // and each write is synced to the disk.
        let bytes = index.to_bytes();
        let there = self.read_document(layout::INDEX, layout::MAX_INDEX)?;
        if there.is_some_and(|(_, there)| there == bytes) {
            return Ok(());
        }
        self.replace_file(layout::INDEX, &bytes)
    }

    /// Publishes a root as [`Store::publish_roots`] does, but may keep its name back until
    /// [`Self::publish_pending_roots`]. The store must have everything that it needs.
    pub(crate) fn publish_root_soon(&self, root: Root) -> Result<()> {
        find_closure(self, &root)?;
        if self.pending_roots().add_root(root) { self.publish_pending_roots() } else { Ok(()) }
    }

    /// Writes the names that were kept back.
    pub(crate) fn publish_pending_roots(&self) -> Result<()> {
        let roots = self.pending_roots().take_roots();
        if roots.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let written = self.change_index(|index| {
            index.put_roots(&roots);
            Ok(())
        });
        self.pending_roots().set_cost(started.elapsed());
        if written.is_err() {
            self.pending_roots().put_back(roots);
        }
        written
    }
}
