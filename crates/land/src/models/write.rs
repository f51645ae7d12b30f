//! Writes planned models into a folder: files that are right stay, files that are missing are written
//! and checked, and a model becomes visible only when it is complete.
//!
//! Unfinished work is in `.gantry` of the same folder, so that one rename can show it: `parts` has
//! files that are being written, `staged` the new revision of a folder that is there already.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use store::Source;
use store::hash::{Sha256Hasher, sha256};
use store::progress::Progress;
use types::site::ModelLayout;

use super::error::{Error, Result, disk_error};
use super::folder::{self, FileState};
use super::plan::{FileContent, FolderIdentity, ModelFolder, ModelPlan};
use super::record::{ModelRecord, OWN};
use super::small_file::{create_parent_folder, put_small_file};
use super::storage::ModelStorage;

/// Bytes that are read, hashed and written at a time.
const PIECE: usize = 1 << 20;

/// Files that are written at the same time. Hashing takes a core for each; more threads only make a
/// disk seek.
const AT_ONCE: usize = 2;

/// What was done for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelPutOutcome {
    /// Nothing: it was there, every file with its digest.
    Present,
    /// At least one of its files was missing or wrong, and was written.
    Written,
}

/// Writes planned models of a source into a folder, which is made where it does not exist; one model
/// after the other, so that the first can be used while the second is written. Refuses to begin when
/// the disk has no room for all of them. Blocks until all is on the disk.
pub fn write_models(
    source: &dyn Source,
    root: &Path,
    plans: &[ModelPlan],
    layout: ModelLayout,
    progress: &dyn Progress,
) -> Result<Vec<ModelPutOutcome>> {
    fs::create_dir_all(root.join(OWN).join("parts")).map_err(disk_error(root))?;
    // One process at a time: a second one waits, and then finds what the first one wrote.
    let path = root.join(OWN).join("lock");
    let lock = File::create(&path).map_err(disk_error(&path))?;
    lock.lock().map_err(disk_error(&path))?;
    let records = ModelRecord::read_all(root)?;
    progress.expect_bytes(plans.iter().map(ModelPlan::size).sum());
    let mut puts = Vec::new();
    let mut needed = 0;
    let mut jobs = Vec::new();
    for plan in plans {
        let job = FolderWriteJob::new(root, plan, &records, progress)?;
        needed += job.missing.iter().map(|(_, content)| content.size).sum::<u64>();
        jobs.push(job);
    }
    // Before the first byte: a disk that is full after an hour of copying helps nobody.
    store::space::ensure_free_space(root, needed)?;
    for (plan, job) in plans.iter().zip(jobs) {
        let put = job.run(source, root, plan, progress)?;
        // The times are read now: whoever changes a file later changes its time, and it is hashed again.
        let modified = |path: &Path| Ok(root.file_stat(path)?.map_or(0, |stat| stat.modified));
        ModelRecord::from_plan(plan, layout, modified)?.write_superseding(root)?;
        progress.finish_item(&plan.name);
        puts.push(put);
    }
    Ok(puts)
}

/// The work for one model.
struct FolderWriteJob {
    /// Files to write: where, relative to the folder, and what.
    missing: Vec<(PathBuf, FileContent)>,
    /// Where a new folder for the model is filled before it gets its name; absent where files are added
    /// to the folder that is there.
    staged: Option<PathBuf>,
    /// Files of the present folder that are right and go into the new one.
    kept: Vec<PathBuf>,
}

impl FolderWriteJob {
    /// Compares what is in the folder with the plan. Counts as skipped what is right.
    fn new(
        root: &Path,
        plan: &ModelPlan,
        records: &[ModelRecord],
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut job = Self { missing: vec![], staged: None, kept: vec![] };
        for (path, content) in &plan.contents {
            job.add_unless_right(root, path.clone(), *content, records, progress)?;
        }
        for (path, content) in &plan.named {
            let is_ours = records.iter().any(|record| record.files.contains_key(path));
            let state = folder::file_state(root, path, *content, records)?;
            if state == FileState::Wrong && !is_ours {
                let reason = "it differs from the file of this name".to_owned();
                return Err(Error::InTheWay { path: root.join(path), reason });
            }
            job.add_unless_right(root, path.clone(), *content, records, progress)?;
        }
        let Some(folder) = &plan.folder else { return Ok(job) };
        let is_there = root.join(&folder.path).is_dir();
        let is_ours = records.iter().any(|record| record.folder.as_ref() == Some(&folder.path));
        if is_there && !is_ours {
            check_unobstructed(root, folder)?;
        }
        let mut missing = Vec::new();
        for (path, content) in &folder.files {
            let whole = folder.path.join(path);
            match folder::file_state(root, &whole, *content, records)? {
                FileState::Right => {
                    progress.skip_bytes(content.size);
                    job.kept.push(path.clone());
                }
                // In a folder of somebody else a file with other content may be their own work.
                FileState::Wrong
                    if is_there && !is_ours && folder.identity == FolderIdentity::Model =>
                {
                    let reason = "it differs from the model's file of this name".to_owned();
                    return Err(Error::InTheWay { path: root.join(&whole), reason });
                }
                FileState::Missing | FileState::Wrong => missing.push((path.clone(), *content)),
            }
        }
        // Another revision of our own: it is made beside the old one and takes its place at once, so that
        // a runtime that reads the folder at this moment never sees a mixture.
        let is_new_revision = is_ours && (!missing.is_empty() || has_foreign_files(root, folder)?);
        if !is_there || is_new_revision {
            let name = plan.name.replace(['/', ':', '@'], "--");
            job.staged = Some(Path::new(OWN).join("staged").join(name));
        }
        let home = job.staged.as_ref().unwrap_or(&folder.path).clone();
        for (path, content) in missing {
            // A killed run may have left files in the staged folder. They are complete: a file gets its
            // name there only after its digest was checked.
            let path = home.join(path);
            job.add_unless_right(root, path, content, &[], progress)?;
        }
        Ok(job)
    }

    /// Adds a file to the work unless it is right already.
    fn add_unless_right(
        &mut self,
        root: &Path,
        path: PathBuf,
        content: FileContent,
        records: &[ModelRecord],
        progress: &dyn Progress,
    ) -> Result<()> {
        match folder::file_state(root, &path, content, records)? {
            FileState::Right => progress.skip_bytes(content.size),
            FileState::Missing | FileState::Wrong => self.missing.push((path, content)),
        }
        Ok(())
    }

    /// Writes what is missing, then shows it: files, links, folder, pointers, in this order.
    fn run(
        self,
        source: &dyn Source,
        root: &Path,
        plan: &ModelPlan,
        progress: &dyn Progress,
    ) -> Result<ModelPutOutcome> {
        let mut put = if self.missing.is_empty() {
            ModelPutOutcome::Present
        } else {
            ModelPutOutcome::Written
        };
        write_files(source, root, &self.missing, progress)?;
        if let Some(folder) = &plan.folder {
            let home = self.staged.as_ref().unwrap_or(&folder.path);
            if self.staged.is_some() {
                for path in &self.kept {
                    keep_file(&root.join(&folder.path).join(path), &root.join(home).join(path))?;
                }
            }
            for (path, to) in &folder.links {
                if put_link(root, &home.join(path), to)? == ModelPutOutcome::Written {
                    put = ModelPutOutcome::Written;
                }
            }
            // On the disk before it gets its name: after a power cut, a folder that is there is complete.
            sync_file_system(root)?;
            if let Some(staged) = &self.staged {
                publish_folder(root, staged, &folder.path)?;
                put = ModelPutOutcome::Written;
            }
        } else if put == ModelPutOutcome::Written {
            sync_file_system(root)?;
        }
        for (path, bytes) in &plan.pointers {
            if !has_content(&root.join(path), bytes) {
                put_small_file(root, &root.join(path), bytes)?;
                put = ModelPutOutcome::Written;
            }
        }
        Ok(put)
    }
}

/// Refuses a model's folder that somebody else made, unless all that is in it is part of the model.
fn check_unobstructed(root: &Path, folder: &ModelFolder) -> Result<()> {
    if folder.identity == FolderIdentity::Commit {
        return Ok(());
    }
    match folder::find_foreign_files(&root.join(&folder.path), folder)?.into_iter().next() {
        Some(path) => Err(Error::InTheWay {
            path,
            reason: "it is not a file of the model, and Gantry did not make it".into(),
        }),
        None => Ok(()),
    }
}

/// Whether the folder has files that are not part of this revision.
fn has_foreign_files(root: &Path, folder: &ModelFolder) -> Result<bool> {
    Ok(!folder::find_foreign_files(&root.join(&folder.path), folder)?.is_empty())
}

/// Writes files, several at the same time. After an error no further file is begun.
fn write_files(
    source: &dyn Source,
    root: &Path,
    files: &[(PathBuf, FileContent)],
    progress: &dyn Progress,
) -> Result<()> {
    let queue = Mutex::new(files.iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(files.len()) {
            scope.spawn(|| {
                let mut piece = vec![0; PIECE];
                while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((path, content)) = next else { return };
                    if let Err(error) = put_file(source, root, path, *content, &mut piece, progress)
                    {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Writes one file: first as a part in `.gantry/parts`, resuming one that a killed run left, and under
/// its name when the digest is right. A resumed part is read and hashed from its start, so that the
/// digest is always that of what is on the disk.
fn put_file(
    source: &dyn Source,
    root: &Path,
    path: &Path,
    content: FileContent,
    piece: &mut [u8],
    progress: &dyn Progress,
) -> Result<()> {
    // The path is in the name, too: two files may have the same content and be written at the same time.
    let name = sha256(path.as_os_str().as_encoded_bytes()).short_hex();
    let part = root.join(OWN).join("parts").join(format!("{}-{name}", content.digest.hex()));
    let mut hash = Sha256Hasher::new();
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(&part)
        .map_err(disk_error(&part))?;
    let mut there = file.metadata().map_err(disk_error(&part))?.len();
    // Longer than the file can be: not ours, or damaged.
    if there > content.size {
        file.set_len(0).map_err(disk_error(&part))?;
        there = 0;
    }
    hash_existing_part(&mut file, there, &mut hash, piece).map_err(disk_error(&part))?;
    progress.skip_bytes(there);
    let mut reader = source.open_blob(&content.digest, there..content.size)?;
    loop {
        let read = reader.read(piece).map_err(|cause| {
            Error::Source(store::Error::Read { what: content.digest.to_string(), cause })
        })?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        let written = store::disk::write_in_pieces(&mut file, &piece[..read]);
        written
            .map_err(|cause| store::space::write_error(&part, root, content.size - there, cause))?;
        there += read as u64;
        progress.advance_bytes(read as u64);
    }
    let actual = hash.finish();
    if actual != content.digest {
        // Nothing to resume from: the next run has to begin from the start.
        fs::remove_file(&part).map_err(disk_error(&part))?;
        return Err(store::Error::DigestMismatch { digest: content.digest, actual }.into());
    }
    let target = root.join(path);
    create_parent_folder(&target)?;
    fs::rename(&part, &target).map_err(disk_error(&target))
}

/// Hashes the `left` bytes that a part has already.
fn hash_existing_part(
    file: &mut File,
    mut left: u64,
    hash: &mut Sha256Hasher,
    piece: &mut [u8],
) -> io::Result<()> {
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let read = file.read(&mut piece[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&piece[..read]);
        left -= read as u64;
    }
    Ok(())
}

/// Takes a file of the present folder into the new one: as a hard link, which costs nothing, or as a
/// copy where the file system has none (some NFS and CIFS mounts).
fn keep_file(old: &Path, new: &Path) -> Result<()> {
    create_parent_folder(new)?;
    match fs::hard_link(old, new) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::copy(old, new).map(|_| ()).map_err(disk_error(new)),
    }
}

/// Whether a small file has this content. A file of another length, perhaps a large one, is not read.
fn has_content(path: &Path, bytes: &[u8]) -> bool {
    let has_length = fs::metadata(path).is_ok_and(|file| file.len() == bytes.len() as u64);
    has_length && fs::read(path).is_ok_and(|content| content == bytes)
}

/// Makes a symbolic link with this target, or replaces one that has another.
fn put_link(root: &Path, path: &Path, to: &Path) -> Result<ModelPutOutcome> {
    let target = root.join(path);
    if fs::read_link(&target).is_ok_and(|old| old == to) {
        return Ok(ModelPutOutcome::Present);
    }
    create_parent_folder(&target)?;
    // A link cannot be overwritten: a new one is made aside and renamed over the old.
    let part = root.join(OWN).join("parts").join("link");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(disk_error(&part)(error));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(to, &part).map_err(disk_error(&target))?;
    fs::rename(&part, &target).map_err(disk_error(&target))?;
    Ok(ModelPutOutcome::Written)
}

/// Gives a staged folder its name, by one rename. What it replaces is removed afterwards.
fn publish_folder(root: &Path, staged: &Path, path: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let (staged, target) = (root.join(staged), root.join(path));
    create_parent_folder(&target)?;
    if !target.exists() {
        return fs::rename(&staged, &target).map_err(disk_error(&target));
    }
    // renameat2 with RENAME_EXCHANGE (Linux 3.15) swaps two folders in one step.
    if renameat_with(CWD, &staged, CWD, &target, RenameFlags::EXCHANGE).is_err() {
        // A file system without it (NFS): for an instant there is no folder of this name.
        let old = staged.with_extension("old");
        fs::rename(&target, &old).map_err(disk_error(&target))?;
        fs::rename(&staged, &target).map_err(disk_error(&target))?;
        return fs::remove_dir_all(&old).map_err(disk_error(&old));
    }
    fs::remove_dir_all(&staged).map_err(disk_error(&staged))
}

/// Writes everything to the disk, before it becomes visible. One `syncfs` for the whole file system is
/// cheaper than an `fsync` for each of thousands of files.
fn sync_file_system(root: &Path) -> Result<()> {
    let folder = File::open(root).map_err(disk_error(root))?;
    rustix::fs::syncfs(&folder).map_err(|errno| disk_error(root)(errno.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::progress::SilentProgress;

    use super::super::test_source::{COMMIT, MemorySource};
    use super::super::{ModelSelection, plan_models};
    use super::*;

    fn make_source(commit: char, files: &[(&str, &[u8])]) -> MemorySource {
        let mut source = MemorySource::default();
        source.add_model("o/n", &commit.to_string().repeat(40), None, files);
        source
    }

    fn write_flat(root: &Path, source: &MemorySource) -> Result<Vec<ModelPutOutcome>> {
        let choice = ModelSelection { layout: ModelLayout::Flat, ..ModelSelection::default() };
        let plans = plan_models(source, &choice).unwrap().plans;
        source.opened.lock().unwrap().clear();
        write_models(source, root, &plans, ModelLayout::Flat, &SilentProgress)
    }

    #[test]
    fn a_second_load_reads_nothing_of_the_source() {
        let root = tempfile::tempdir().unwrap();
        let source = make_source('a', &[("x", b"xx"), ("y/z", b"zz")]);
        assert_eq!(write_flat(root.path(), &source).unwrap(), [ModelPutOutcome::Written]);
        assert_eq!(fs::read(root.path().join("o/n/y/z")).unwrap(), b"zz");
        assert_eq!(write_flat(root.path(), &source).unwrap(), [ModelPutOutcome::Present]);
        assert!(source.opened.lock().unwrap().is_empty());
    }

    #[test]
    fn a_part_that_a_killed_run_left_is_resumed_where_it_ended() {
        let root = tempfile::tempdir().unwrap();
        let source = make_source('a', &[("x", b"0123456789")]);
        let digest = sha256(b"0123456789");
        let staged = format!(".gantry/staged/o--n--{}/x", "a".repeat(40));
        let name = sha256(staged.as_bytes()).short_hex();
        let parts = root.path().join(".gantry/parts");
        fs::create_dir_all(&parts).unwrap();
        fs::write(parts.join(format!("{}-{name}", digest.hex())), "0123").unwrap();
        write_flat(root.path(), &source).unwrap();
        assert_eq!(*source.opened.lock().unwrap(), [(digest, 4..10)]);
        assert_eq!(fs::read(root.path().join("o/n/x")).unwrap(), b"0123456789");
    }

    #[test]
    fn wrong_bytes_are_never_shown_and_nothing_of_them_is_resumed() {
        let root = tempfile::tempdir().unwrap();
        let mut source = make_source('a', &[("x", b"good")]);
        source.damage_blob(&sha256(b"good"));
        let error = write_flat(root.path(), &source).unwrap_err();
        assert!(error.is_integrity(), "{error}");
        assert!(!root.path().join("o/n").exists());
        assert_eq!(ModelRecord::read_all(root.path()).unwrap(), []);
        let right = make_source('a', &[("x", b"good")]);
        write_flat(root.path(), &right).unwrap();
        assert_eq!(*right.opened.lock().unwrap(), [(sha256(b"good"), 0..4)]);
    }

    #[test]
    fn a_new_revision_takes_the_folder_of_the_old_and_reads_only_what_changed() {
        let root = tempfile::tempdir().unwrap();
        let old = make_source('a', &[("same", b"same"), ("gone", b"gone"), ("x", b"old")]);
        write_flat(root.path(), &old).unwrap();
        let new = make_source('b', &[("same", b"same"), ("x", b"new")]);
        write_flat(root.path(), &new).unwrap();
        let folder = root.path().join("o/n");
        assert_eq!(fs::read(folder.join("x")).unwrap(), b"new");
        assert_eq!(fs::read(folder.join("same")).unwrap(), b"same");
        assert!(!folder.join("gone").exists());
        assert_eq!(*new.opened.lock().unwrap(), [(sha256(b"new"), 0..3)]);
        let records = ModelRecord::read_all(root.path()).unwrap();
        assert_eq!(records.len(), 1);
        assert!(fs::read_dir(root.path().join(".gantry/staged")).unwrap().next().is_none());
    }

    #[test]
    fn a_folder_that_somebody_else_made_is_kept_unless_all_of_it_is_the_models() {
        let source = make_source('a', &[("x", b"good"), ("y", b"more")]);
        for (path, text) in [("o/n/x", "mine"), ("o/n/own.txt", "mine")] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("o/n")).unwrap();
            fs::write(root.path().join(path), text).unwrap();
            let error = write_flat(root.path(), &source).unwrap_err();
            assert!(
                matches!(&error, Error::InTheWay { path: at, .. } if at.ends_with(path)),
                "{error}"
            );
            assert_eq!(fs::read_to_string(root.path().join(path)).unwrap(), "mine");
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("o/n")).unwrap();
        fs::write(root.path().join("o/n/x"), "good").unwrap();
        write_flat(root.path(), &source).unwrap();
        assert_eq!(*source.opened.lock().unwrap(), [(sha256(b"more"), 0..4)]);
    }

    #[test]
    fn a_link_with_another_target_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(OWN).join("parts")).unwrap();
        let (link, to) = (Path::new("a").join(COMMIT), Path::new("../blobs/x"));
        let put = |to: &Path| put_link(root.path(), &link, to).unwrap();
        assert_eq!(put(Path::new("../blobs/old")), ModelPutOutcome::Written);
        assert_eq!(put(to), ModelPutOutcome::Written);
        assert_eq!(put(to), ModelPutOutcome::Present);
        assert_eq!(fs::read_link(root.path().join(&link)).unwrap(), to);
    }
}
