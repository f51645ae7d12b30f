//! The names of roots in a store: reading and changing `index.json`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use types::{Reference, Root};

use crate::layout::{self, LayoutIndex};
use crate::{Error, Result, Store, find_closure};

impl Store {
    /// Gives the roots their names; another root that had the name loses it. All of them become visible
    /// in one step. The store must have every blob that they need (see [`find_closure`]).
    pub fn publish_roots(&self, roots: &[Root]) -> Result<()> {
        let _session = self.open_session()?;
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
}

// === inside the crate ===

impl Store {
    pub(crate) fn read_index(&self) -> Result<LayoutIndex> {
        match self.read_index_bytes()? {
            Some(bytes) => {
                Ok(LayoutIndex::parse(&self.index_path().display().to_string(), &bytes)?)
            }
            // A layout without an index is empty: its creation was interrupted.
            None => Ok(LayoutIndex::empty()),
        }
    }

    fn index_path(&self) -> PathBuf {
        self.path().join(layout::INDEX)
    }

    fn read_index_bytes(&self) -> Result<Option<Vec<u8>>> {
        let path = self.index_path();
        let failed = |cause| Error::Read { what: path.display().to_string(), cause };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(cause)),
        };
        let mut bytes = Vec::new();
        // One byte more than allowed, to see that there is more. The length in the metadata would not
        // do: a pipe or a file that grows has another.
        file.take(layout::MAX_INDEX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > layout::MAX_INDEX {
            let most = types::ByteSize(layout::MAX_INDEX);
            return Err(self.not_a_store_error(format!("its index.json is larger than {most}")));
        }
        Ok(Some(bytes))
    }

    /// Changes `index.json` in one step, with an exclusive lock among all processes.
    fn change_index(&self, change: impl FnOnce(&mut LayoutIndex) -> Result<()>) -> Result<()> {
        let _session = self.open_session()?;
        self.make_folders()?;
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?;
        change(&mut index)?;
        // An unchanged index is not written: every run of fetch and load publishes again what is there,
        // and each write is synced to the disk.
        let bytes = index.to_bytes();
        if self.read_index_bytes()?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        self.replace_file(layout::INDEX, &bytes)
    }
}
