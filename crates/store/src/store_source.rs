//! The store as a [`Source`]: each blob is a file, so reading is opening it and seeking.

use std::io::{self, Seek as _, SeekFrom};
use std::ops::Range;

use types::{Digest, Root};

use crate::folder::blob_file;
use crate::layout::INDEX;
use crate::{BlobFile, Error, FileStamp, Result, Source, SourceReader, Store};

impl Source for Store {
    fn roots(&self) -> Result<Vec<Root>> {
        Self::roots(self)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blob_metadata(digest)?.map(|metadata| metadata.len()))
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let path = blob_file(digest);
        let failed = |cause| self.read_error(&path, cause);
        let mut file = match self.folder().open_file(&path) {
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
        // Not of what a link points to: a link in its place is an error.
        let metadata = self.blob_metadata(digest)?.ok_or(Error::BlobMissing { digest: *digest })?;
        let stamp = FileStamp::from_metadata(&metadata);
        Ok(vec![BlobFile { path: self.blob_path(digest), stamp }])
    }

    fn check_media(&self) -> Result<()> {
        // A store's folder is empty when its volume is not mounted any more.
        let path = self.path().join(INDEX);
        let gone = |cause: io::Error| Error::MediumGone { path: path.clone(), cause };
        self.folder().open_file(INDEX).and_then(|file| crate::disk::probe_file(&file)).map_err(gone)
    }
}
