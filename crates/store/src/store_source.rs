//! The store as a [`Source`]: each blob is a file, so reading is opening it and seeking.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;

use types::{Digest, Root};

use crate::layout::INDEX;
use crate::{BlobFile, Error, FileStamp, Result, Source, SourceReader, Store};

impl Source for Store {
    fn roots(&self) -> Result<Vec<Root>> {
        Self::roots(self)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            // A folder or socket under a digest's name is not a blob.
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::Read { what: path.display().to_string(), cause }),
        }
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let path = self.blob_path(digest);
        let failed = |cause| Error::Read { what: path.display().to_string(), cause };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::BlobMissing { digest: *digest });
            }
            Err(cause) => return Err(failed(cause)),
        };
        // Of the open file, not of the path: garbage collection may remove the name meanwhile.
        let size = file.metadata().map_err(failed)?.len();
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(Error::Range { digest: *digest, start, end, size });
        }
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        Ok(SourceReader::new(file, end - start))
    }

    fn find_blob_files(&self, digest: &Digest) -> Result<Vec<BlobFile>> {
        let path = self.blob_path(digest);
        // Not of what a link points to: the name itself is what may be replaced.
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(vec![BlobFile { path, stamp: FileStamp::from_metadata(&metadata) }]),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::BlobMissing { digest: *digest })
            }
            Err(cause) => Err(Error::Read { what: path.display().to_string(), cause }),
        }
    }

    fn check_media(&self) -> Result<()> {
        // A store's folder is empty when its volume is not mounted any more.
        let path = self.path().join(INDEX);
        let gone = |cause: io::Error| Error::MediumGone { path: path.clone(), cause };
        File::open(&path).and_then(|file| crate::disk::probe_file(&file)).map_err(gone)
    }
}
