//! Compares a bucket with the plan of a model: which objects are right, and which have to be uploaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use store::progress::Progress;

use super::model_bucket::{ModelBucket, ObjectHead};
use crate::models::plan::{FileContent, FolderIdentity, ModelFolder, ModelPlan};
use crate::models::record::ModelRecord;
use crate::models::storage::ModelStorage;
use crate::models::{Error, Result};

/// The work for one model.
pub(super) struct BucketUploadJob {
    /// Objects to upload that no reader lists: blobs, whose paths are made from their content.
    pub(super) contents: Vec<(PathBuf, FileContent)>,
    /// Objects to upload of the model's folder, which should appear at once.
    pub(super) folder_files: Vec<(PathBuf, FileContent)>,
    /// Objects of the revision that this one replaces, to be removed afterwards.
    pub(super) stale: Vec<PathBuf>,
}

impl BucketUploadJob {
    /// Whether there is nothing to upload.
    pub(super) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.folder_files.is_empty()
    }
}

/// Looks at every object of a model. An object is right by the digest in its metadata or by the record;
/// where neither knows it, it is read and hashed. Objects of somebody else are an error.
pub(super) async fn inspect_model(
    bucket: &ModelBucket,
    plan: &ModelPlan,
    records: &[ModelRecord],
    progress: &dyn Progress,
) -> Result<BucketUploadJob> {
    let mut job = BucketUploadJob { contents: vec![], folder_files: vec![], stale: vec![] };
    for (path, content, is_right) in find_object_states(bucket, plan, records).await? {
        if is_right == Some(true) {
            progress.skip_bytes(content.size);
        } else if plan.contents.contains_key(&path) {
            job.contents.push((path, content));
        } else if plan.named.contains_key(&path) {
            let is_ours = records.iter().any(|record| record.files.contains_key(&path));
            if is_right == Some(false) && !is_ours {
                let reason = "it differs from the file of this name".to_owned();
                return Err(Error::InTheWay { path: bucket.display_path(&path), reason });
            }
            job.folder_files.push((path, content));
        } else {
            job.folder_files.push((path, content));
            let (path, _) = &job.folder_files[job.folder_files.len() - 1];
            if is_right == Some(false)
                && let Some(folder) = &plan.folder
                && folder.identity == FolderIdentity::Model
                && !is_recorded_folder(folder, records)
            {
                let reason = "it differs from the model's file of this name".to_owned();
                return Err(Error::InTheWay { path: bucket.display_path(path), reason });
            }
        }
    }
    if let Some(folder) = plan.folder.as_ref().filter(|f| f.identity == FolderIdentity::Model) {
        let own: BTreeSet<PathBuf> = plan.files().map(|(path, _)| path).collect();
        if is_recorded_folder(folder, records) {
            let old = records.iter().filter(|record| record.folder.as_ref() == Some(&folder.path));
            let old = old.flat_map(|record| record.files.keys());
            job.stale = old.filter(|path| !own.contains(*path)).cloned().collect();
        } else if let Some(path) =
            bucket.list_below(&folder.path).await?.into_iter().find(|path| !own.contains(path))
        {
            return Err(Error::InTheWay {
                path: bucket.display_path(&path),
                reason: "it is not a file of the model, and Gantry did not make it".into(),
            });
        }
    }
    Ok(job)
}

/// Whether an object has the content that it should have.
pub(super) async fn is_object_right(
    bucket: &ModelBucket,
    path: &Path,
    content: FileContent,
    object: &ObjectHead,
    records: &[ModelRecord],
) -> Result<bool> {
    if object.stat.size != content.size {
        return Ok(false);
    }
    if let Some(told) = object.digest {
        return Ok(told == content.digest);
    }
    // Without metadata: Azure, or a server that drops it.
    let mut known = records.iter().filter_map(|record| record.files.get(path));
    if known.any(|file| file.digest == content.digest && file.modified == object.stat.modified) {
        return Ok(true);
    }
    Ok(bucket.hash_object(path, content.digest.algorithm(), &mut |_| {}).await? == content.digest)
}

/// Each object of a plan, and whether it is right; `None` for those that do not exist.
async fn find_object_states(
    bucket: &ModelBucket,
    plan: &ModelPlan,
    records: &[ModelRecord],
) -> Result<Vec<(PathBuf, FileContent, Option<bool>)>> {
    let files: Vec<(PathBuf, FileContent)> = plan.files().collect();
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    let objects = bucket.head_objects(&paths).await?;
    let mut states = Vec::with_capacity(files.len());
    for ((path, content), object) in files.into_iter().zip(objects) {
        let state = match object {
            Some(object) => Some(is_object_right(bucket, &path, content, &object, records).await?),
            None => None,
        };
        states.push((path, content, state));
    }
    Ok(states)
}

/// Whether Gantry wrote this folder.
fn is_recorded_folder(folder: &ModelFolder, records: &[ModelRecord]) -> bool {
    records.iter().any(|record| record.folder.as_ref() == Some(&folder.path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use object_store::ObjectStoreExt as _;
    use object_store::PutPayload;
    use store::hash::sha256;
    use store::progress::SilentProgress;
    use types::site::ModelLayout;

    use super::super::test_bucket::make_bucket;
    use super::*;
    use crate::models::record::RecordedFile;

    fn make_content(bytes: &[u8]) -> FileContent {
        FileContent { digest: sha256(bytes), size: bytes.len() as u64 }
    }

    fn make_plan(files: &[(&str, &[u8])]) -> ModelPlan {
        let files = files.iter().map(|(path, bytes)| (PathBuf::from(path), make_content(bytes)));
        ModelPlan {
            name: "o/n@1".into(),
            contents: [].into(),
            named: [].into(),
            folder: Some(ModelFolder {
                path: "o/n".into(),
                files: files.collect(),
                links: [].into(),
                identity: FolderIdentity::Model,
            }),
            pointers: vec![],
        }
    }

    fn make_record(folder: Option<&str>, files: &[(&str, FileContent, u64)]) -> ModelRecord {
        let file = |(path, content, modified): &(&str, FileContent, u64)| {
            let FileContent { digest, size } = *content;
            (PathBuf::from(path), RecordedFile { digest, size, modified: *modified })
        };
        ModelRecord {
            version: 1,
            name: "o/n@0".into(),
            layout: ModelLayout::Flat,
            folder: folder.map(PathBuf::from),
            files: files.iter().map(file).collect(),
            links: [].into(),
        }
    }

    /// Puts an object as somebody else does it, without a digest in its metadata.
    fn put_plain(bucket: &ModelBucket, path: &str, bytes: &'static [u8]) {
        let key = bucket.object_key(Path::new(path)).unwrap();
        bucket.runtime.block_on(bucket.server.put(&key, PutPayload::from_static(bytes))).unwrap();
    }

    fn inspect(
        bucket: &ModelBucket,
        plan: &ModelPlan,
        records: &[ModelRecord],
    ) -> Result<BucketUploadJob> {
        bucket.runtime.block_on(inspect_model(bucket, plan, records, &SilentProgress))
    }

    #[test]
    fn an_object_is_right_by_its_metadata_else_by_the_record_else_by_its_content() {
        let (bucket, runtime) = make_bucket();
        let path = Path::new("o/n/x");
        let is_right = |content, records: &[ModelRecord]| {
            runtime.block_on(async {
                let object = bucket.head_object(path).await.unwrap().unwrap();
                is_object_right(&bucket, path, content, &object, records).await.unwrap()
            })
        };
        // The metadata is believed: reading 100 GB at each push would be too slow.
        let told = bucket.put_object(path, Bytes::from_static(b"evil"), sha256(b"good"));
        runtime.block_on(told).unwrap();
        assert!(is_right(make_content(b"good"), &[]));
        assert!(!is_right(make_content(b"evil"), &[]));
        put_plain(&bucket, "o/n/x", b"evil");
        let modified = bucket.file_stat(path).unwrap().unwrap().modified;
        let record = |modified| [make_record(None, &[("o/n/x", make_content(b"good"), modified)])];
        assert!(is_right(make_content(b"good"), &record(modified)));
        assert!(!is_right(make_content(b"good"), &record(modified + 1)));
        assert!(is_right(make_content(b"evil"), &[]));
        assert!(!is_right(make_content(b"longer"), &[]));
    }

    #[test]
    fn only_what_is_missing_or_wrong_is_uploaded() {
        let (bucket, _runtime) = make_bucket();
        put_plain(&bucket, "o/n/right", b"right");
        let job =
            inspect(&bucket, &make_plan(&[("right", b"right"), ("new", b"new")]), &[]).unwrap();
        assert_eq!(job.folder_files, [("o/n/new".into(), make_content(b"new"))]);
        assert!(job.contents.is_empty() && job.stale.is_empty() && !job.is_empty());
        let job = inspect(&bucket, &make_plan(&[("right", b"right")]), &[]).unwrap();
        assert!(job.is_empty());
    }

    #[test]
    fn objects_of_somebody_else_in_a_models_folder_are_refused_and_named() {
        for (path, bytes) in [("o/n/x", b"mine".as_slice()), ("o/n/a/own.txt", b"mine")] {
            let (bucket, _runtime) = make_bucket();
            put_plain(&bucket, path, bytes);
            let error = inspect(&bucket, &make_plan(&[("x", b"good")]), &[]).map(drop).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("s3://b/p/{path} is in the way")),
                "{error}"
            );
        }
        let (bucket, _runtime) = make_bucket();
        // Another model whose name begins alike is not in the folder.
        put_plain(&bucket, "o/n2/x", b"mine");
        assert!(inspect(&bucket, &make_plan(&[("x", b"good")]), &[]).is_ok());
    }

    #[test]
    fn what_only_the_replaced_revision_has_is_stale() {
        let (bucket, _runtime) = make_bucket();
        put_plain(&bucket, "o/n/x", b"old");
        put_plain(&bucket, "o/n/gone", b"gone");
        let old = [
            make_record(
                Some("o/n"),
                &[("o/n/x", make_content(b"old"), 0), ("o/n/gone", make_content(b"gone"), 0)],
            ),
            make_record(Some("o/m"), &[("o/m/other", make_content(b"o"), 0)]),
        ];
        let job = inspect(&bucket, &make_plan(&[("x", b"new")]), &old).unwrap();
        assert_eq!(job.folder_files, [("o/n/x".into(), make_content(b"new"))]);
        assert_eq!(job.stale, [PathBuf::from("o/n/gone")]);
    }

    #[test]
    fn a_listing_has_the_files_right_in_a_folder_below_the_prefix() {
        let (bucket, _runtime) = make_bucket();
        for path in ["f/a", "f/b/c", "fg/d"] {
            put_plain(&bucket, path, b"x");
        }
        assert_eq!(bucket.list_files(Path::new("f")).unwrap(), [PathBuf::from("f/a")]);
        bucket.remove_file(Path::new("f/a")).unwrap();
        bucket.remove_file(Path::new("f/a")).unwrap();
        assert_eq!(bucket.file_stat(Path::new("f/a")).unwrap(), None);
        assert_eq!(bucket.read_file(Path::new("f/a")).unwrap(), None);
    }
}
