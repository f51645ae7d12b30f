//! Writes planned models into a folder: files that are right stay, files that are missing are written
//! and checked, and a model becomes visible only when it is complete.
//!
//! Unfinished work is in `.gantry` of the same folder, so that one rename can show it: `parts` has
//! files that are being written, `staged` the new revision of a folder that is there already.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use store::Source;
use store::confined::ConfinedFolder;
use store::progress::{Progress, SilentProgress};
use types::lock::Blob;
use types::site::ModelLayout;

use super::error::{Error, Result, disk_error};
use super::folder::{self, FileState};
use super::plan::{FileContent, FolderIdentity, ModelFolder, ModelPlan};
use super::record::{ModelRecord, OWN};
use super::small_file::{create_parent_folder, put_small_file};
use super::storage::ModelStorage;
use crate::blob_file::{BlobFileWriter, PIECE};

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
///
/// Others may write in the folder, so no link in it is followed. Where the file system has no symbolic
/// links (exFAT, FAT, some shares), a Hugging Face cache gets plain files, which is noted.
pub fn write_models(
    source: &dyn Source,
    root: &Path,
    plans: &[ModelPlan],
    layout: ModelLayout,
    progress: &dyn Progress,
) -> Result<Vec<ModelPutOutcome>> {
    let folder = ConfinedFolder::new(root);
    let parts = Path::new(OWN).join("parts");
    folder.create_folders(&parts).map_err(disk_error(&root.join(&parts)))?;
    // One process at a time: a second one waits, and then finds what the first one wrote.
    let path = Path::new(OWN).join("lock");
    let lock = folder.open_writable_file(&path).map_err(disk_error(&root.join(&path)))?;
    lock.lock().map_err(disk_error(&root.join(&path)))?;
    let plans = adapt_to_file_system(&folder, plans, progress)?;
    let records = ModelRecord::read_all(root)?;
    progress.expect_bytes(plans.iter().map(ModelPlan::size).sum());
    let mut puts = Vec::new();
    let mut needed = 0;
    let mut jobs = Vec::new();
    for plan in &*plans {
        let job = FolderWriteJob::new(root, plan, &records, progress)?;
        needed += job.missing.iter().map(|(_, content)| content.size).sum::<u64>();
        jobs.push(job);
    }
    // Before the first byte: a disk that is full after an hour of copying helps nobody.
    store::space::ensure_free_space(root, needed)?;
    let writer = BlobFileWriter { source, folder: &folder, parts: &parts, progress };
    for (plan, job) in plans.iter().zip(jobs) {
        progress.start_item(&plan.name);
        let put = job.run(&writer, plan);
        progress.end_item(&plan.name);
        let put = put?;
        // The times are read now: whoever changes a file later changes its time, and it is hashed again.
        let modified = |path: &Path| Ok(root.file_stat(path)?.map_or(0, |stat| stat.modified));
        ModelRecord::from_plan(plan, layout, modified)?.write_superseding(root)?;
        progress.finish_item(&plan.name);
        puts.push(put);
    }
    Ok(puts)
}

/// How many bytes of each model a folder lacks. Nothing is written. Files that no record has are hashed.
pub(super) fn find_missing_bytes(root: &Path, plans: &[ModelPlan]) -> Result<Vec<u64>> {
    if !root.is_dir() {
        return Ok(plans.iter().map(ModelPlan::size).collect());
    }
    let records = ModelRecord::read_all(root)?;
    let missing_bytes = |plan: &ModelPlan| {
        let job = FolderWriteJob::new(root, plan, &records, &SilentProgress)?;
        Ok::<u64, Error>(job.missing.iter().map(|(_, content)| content.size).sum())
    };
    let missing = |plan: &ModelPlan| {
        let has_links = plan.folder.as_ref().is_some_and(|folder| !folder.links.is_empty());
        // Whether the file system has links would be found out by making one; what is there says it too.
        match missing_bytes(plan)? {
            bytes if bytes > 0 && has_links => {
                Ok(bytes.min(missing_bytes(&plan.with_plain_files())?))
            }
            bytes => Ok(bytes),
        }
    };
    plans.iter().map(missing).collect()
}

/// The plans as the folder's file system can hold them.
fn adapt_to_file_system<'a>(
    folder: &ConfinedFolder,
    plans: &'a [ModelPlan],
    progress: &dyn Progress,
) -> Result<Cow<'a, [ModelPlan]>> {
    let has_links = |plan: &ModelPlan| plan.folder.as_ref().is_some_and(|f| !f.links.is_empty());
    if !plans.iter().any(has_links) || can_hold_links(folder)? {
        return Ok(Cow::Borrowed(plans));
    }
    progress.add_note(&format!(
        "the file system of {} has no symbolic links: models are written as plain files",
        folder.path().display()
    ));
    Ok(Cow::Owned(plans.iter().map(ModelPlan::with_plain_files).collect()))
}

/// Whether the folder's file system has symbolic links: found out by making one.
fn can_hold_links(folder: &ConfinedFolder) -> Result<bool> {
    let probe = Path::new(OWN).join("parts").join("link-probe");
    let shown = folder.path().join(&probe);
    remove_if_there(folder, &probe)?;
    match folder.create_link(&probe, Path::new("target")) {
        Ok(()) => folder.remove_file(&probe).map(|()| true).map_err(disk_error(&shown)),
        // EPERM is what the kernel has for file systems without links (symlink(2)); FUSE and network file
        // systems have the others.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) || error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) =>
        {
            Ok(false)
        }
        Err(cause) => Err(disk_error(&shown)(cause)),
    }
}

/// Removes a file that a killed run may have left.
fn remove_if_there(folder: &ConfinedFolder, path: &Path) -> Result<()> {
    match folder.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(disk_error(&folder.path().join(path))(error))
        }
        _ => Ok(()),
    }
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
        let is_there = folder::is_folder(root, &folder.path)?;
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
    fn run(self, writer: &BlobFileWriter<'_>, plan: &ModelPlan) -> Result<ModelPutOutcome> {
        let root = writer.folder;
        let mut put = if self.missing.is_empty() {
            ModelPutOutcome::Present
        } else {
            ModelPutOutcome::Written
        };
        write_files(writer, &self.missing)?;
        if let Some(folder) = &plan.folder {
            let home = self.staged.as_ref().unwrap_or(&folder.path);
            if self.staged.is_some() {
                for path in &self.kept {
                    keep_file(root, &folder.path.join(path), &home.join(path))?;
                }
            }
            for (path, to) in &folder.links {
                if put_link(root, &home.join(path), to)? == ModelPutOutcome::Written {
                    put = ModelPutOutcome::Written;
                }
            }
            // On the disk before it gets its name: after a power cut, a folder that is there is complete.
            sync_file_system(root.path())?;
            if let Some(staged) = &self.staged {
                publish_folder(root, staged, &folder.path)?;
                put = ModelPutOutcome::Written;
            }
        } else if put == ModelPutOutcome::Written {
            sync_file_system(root.path())?;
        }
        for (path, bytes) in &plan.pointers {
            if !has_content(root.path(), path, bytes)? {
                put_small_file(root, path, bytes)?;
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
    match folder::find_foreign_files(root, folder)?.into_iter().next() {
        Some(path) => Err(Error::InTheWay {
            path,
            reason: "it is not a file of the model, and Gantry did not make it".into(),
        }),
        None => Ok(()),
    }
}

/// Whether the folder has files that are not part of this revision.
fn has_foreign_files(root: &Path, folder: &ModelFolder) -> Result<bool> {
    Ok(!folder::find_foreign_files(root, folder)?.is_empty())
}

/// Writes files, several at the same time. After an error no further file is begun.
fn write_files(writer: &BlobFileWriter<'_>, files: &[(PathBuf, FileContent)]) -> Result<()> {
    let queue = Mutex::new(files.iter());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(files.len()) {
            scope.spawn(|| {
                let mut piece = vec![0; PIECE];
                while failed.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((path, content)) = next else { return };
                    let blob = Blob { digest: content.digest, size: content.size };
                    if let Err(error) = writer.write_file(path, blob, &mut piece) {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.get_or_insert(error.into());
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

/// Takes a file of the present folder into the new one: as a hard link, which costs nothing, or as a
/// copy where the file system has none (some NFS and CIFS mounts).
fn keep_file(root: &ConfinedFolder, old: &Path, new: &Path) -> Result<()> {
    create_parent_folder(root, new)?;
    match root.link_file(old, new) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => copy_file(root, old, new).map_err(disk_error(&root.path().join(new))),
    }
}

fn copy_file(root: &ConfinedFolder, old: &Path, new: &Path) -> io::Result<()> {
    let mut copy = root.create_new_file(new)?;
    io::copy(&mut root.open_file(old)?, &mut copy).map(|_| ())
}

/// Whether a small file has this content. A file of another length, perhaps a large one, is not read,
/// and a link is not followed: it is replaced.
fn has_content(root: &Path, path: &Path, bytes: &[u8]) -> Result<bool> {
    let stat = match root.file_stat(path) {
        Err(error) if error.is_refused_link() => return Ok(false),
        stat => stat?,
    };
    let has_length = stat.is_some_and(|stat| stat.size == bytes.len() as u64);
    Ok(has_length && root.read_file(path)?.is_some_and(|content| content == bytes))
}

/// Makes a symbolic link with this target, or replaces one that has another.
fn put_link(root: &ConfinedFolder, path: &Path, to: &Path) -> Result<ModelPutOutcome> {
    if root.read_link(path).is_ok_and(|old| old == to) {
        return Ok(ModelPutOutcome::Present);
    }
    create_parent_folder(root, path)?;
    // A link cannot be overwritten: a new one is made aside and renamed over the old.
    let part = Path::new(OWN).join("parts").join("link");
    remove_if_there(root, &part)?;
    let shown = root.path().join(path);
    root.create_link(&part, to).map_err(disk_error(&shown))?;
    root.rename(&part, path).map_err(disk_error(&shown))?;
    Ok(ModelPutOutcome::Written)
}

/// Gives a staged folder its name, by one rename. What it replaces is removed afterwards.
fn publish_folder(root: &ConfinedFolder, staged: &Path, path: &Path) -> Result<()> {
    let failed = |path: &Path| {
        let shown = root.path().join(path);
        move |cause| Error::Disk { path: shown, cause }
    };
    create_parent_folder(root, path)?;
    if !folder::is_folder(root.path(), path)? {
        return root.rename(staged, path).map_err(failed(path));
    }
    // renameat2 with RENAME_EXCHANGE (Linux 3.15) swaps two folders in one step.
    if root.exchange(staged, path).is_err() {
        // A file system without it (NFS): for an instant there is no folder of this name.
        let old = staged.with_extension("old");
        root.rename(path, &old).map_err(failed(path))?;
        root.rename(staged, path).map_err(failed(path))?;
        return root.remove_folder(&old).map_err(failed(&old));
    }
    root.remove_folder(staged).map_err(failed(staged))
}

/// Writes everything to the disk, before it becomes visible. One `syncfs` for the whole file system is
/// cheaper than an `fsync` for each of thousands of files.
fn sync_file_system(root: &Path) -> Result<()> {
    let folder = File::open(root).map_err(disk_error(root))?;
    rustix::fs::syncfs(&folder).map_err(|errno| disk_error(root)(errno.into()))
}

#[cfg(test)]
mod tests;
