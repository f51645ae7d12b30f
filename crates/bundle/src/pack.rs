//! Writes the bundle files of a plan: each blob is read once, files are written sequentially, each
//! under a temporary name until it is complete. Which folder a file goes to is decided in
//! [`crate::pack_folders`].

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::Source;
use store::confined::ConfinedFolder;
use store::progress::Progress;

use crate::blob_reader::{self, ChunkReceiver, PackInterruption};
use crate::document::BundleManifest;
use crate::index::BundleIndex;
use crate::pack_folders::{FinishedBundleFile, FolderSupply, PackFolders};
use crate::pack_report::{PackAction, PackReport, PackedBundleFile, Recheck};
use crate::writer::BundleFileWriter;
use crate::{BundleFile, Error, PackPlan, PlannedBundleFile, Result, disk_space};

/// As [`pack_to_folders`], into one folder.
pub fn pack_to_folder(
    source: &dyn Source,
    plan: &PackPlan,
    folder: &Path,
    recheck: Recheck,
    progress: &dyn Progress,
) -> Result<PackReport> {
    pack_to_folders(source, plan, &[folder.to_owned()], None, recheck, progress)
}

/// Writes the bundle files of the plan into folders, which are filled one after the other, and the
/// manifest next to the last file. When all are full, `supply` is asked for another one, which may be the
/// same path with another disk; without it, nothing is begun unless all files have room.
///
/// Finished files of an interrupted run are kept, whichever folder they are in. Other files of the plan's
/// name are replaced or removed.
///
/// # Errors
/// [`Error::NoSpace`] or [`Error::FoldersFull`] when there is no room; finished files are kept.
pub fn pack_to_folders(
    source: &dyn Source,
    plan: &PackPlan,
    folders: &[PathBuf],
    supply: Option<&dyn FolderSupply>,
    recheck: Recheck,
    progress: &dyn Progress,
) -> Result<PackReport> {
    let mut target = PackFolders::open(plan, folders, supply, recheck, progress)?;
    progress.expect_bytes(plan.size());
    let mut counted = vec![false; plan.files.len()];
    loop {
        match try_pack(source, plan, &mut target, &mut counted, progress) {
            Ok(()) => break,
            Err(PackInterruption::Failed(error)) => return Err(error),
            // The kept file was written while its blob was damaged in the store; since then the
            // blob has been fetched again. Start over without keeping this file: each round
            // excludes one more, so the loop ends.
            Err(PackInterruption::KeptDiffers(number)) => target.forget_file(number),
            // What was written of the file is written again, to the next disk.
            Err(PackInterruption::DiskFull { written }) => progress.expect_bytes(written),
            Err(PackInterruption::FolderAdded) => {}
        }
    }
    // Last of all: where the manifest exists, all files do.
    let finished: Vec<FinishedBundleFile> = target.finished.iter().flatten().cloned().collect();
    let folder = finished.last().and_then(|file| file.path.parent()).unwrap_or(Path::new(""));
    let manifest = folder.join(plan.naming.manifest_name());
    let hashes: Vec<blake3::Hash> = finished.iter().map(|file| file.index_hash).collect();
    write_manifest(&manifest, &BundleManifest::from_plan(plan, &hashes))?;
    target.leave_all_folders(progress)?;
    let files = plan.files.iter().zip(finished).map(|(volume, file)| PackedBundleFile {
        path: file.path,
        size: volume.size,
        action: file.action,
    });
    Ok(PackReport { bundle: plan.id, files: files.collect(), manifest: Some(manifest) })
}

/// Writes a plan of one bundle file to a stream.
pub fn pack_to_stream(
    source: &dyn Source,
    plan: &PackPlan,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<PackReport> {
    let [volume] = plan.files.as_slice() else {
        return Err(Error::NotOneFile { count: plan.files.len() });
    };
    progress.expect_bytes(plan.size());
    let path = Path::new("the output stream");
    let written = blob_reader::run_with_blob_reader(source, plan, &[None], |feed| {
        BundleFileWriter::new(&mut *out, path, volume, progress).write(plan, &[], feed)
    });
    match written {
        Ok(_) => Ok(PackReport { bundle: plan.id, files: vec![], manifest: None }),
        Err(PackInterruption::Failed(error)) => Err(error),
        // A stream has neither kept files nor folders.
        Err(_) => Err(Error::Damaged { path: path.to_owned(), entry: "file 1".to_owned() }),
    }
}

/// One attempt: writes the files that are not finished. `counted` says which files the progress has.
fn try_pack(
    source: &dyn Source,
    plan: &PackPlan,
    target: &mut PackFolders<'_>,
    counted: &mut [bool],
    progress: &dyn Progress,
) -> Result<(), PackInterruption> {
    let kept: Vec<Option<Arc<BundleIndex>>> = target
        .finished
        .iter()
        .map(|finished| finished.as_ref().map(|file| Arc::clone(&file.index)))
        .collect();
    let mut hashes = Vec::with_capacity(plan.files.len());
    blob_reader::run_with_blob_reader(source, plan, &kept, |feed| {
        for (place, volume) in plan.files.iter().enumerate() {
            let name = plan.naming.file_name(volume.number);
            if let Some(file) = &target.finished[place] {
                hashes.push(file.index_hash);
                if !std::mem::replace(&mut counted[place], true) {
                    progress.skip_bytes(volume.size);
                    progress.finish_item(&name);
                }
                continue;
            }
            let file = write_next_file(plan, volume, target, &hashes, feed, progress)?;
            hashes.push(file.index_hash);
            target.finished[place] = Some(file);
            counted[place] = true;
            progress.finish_item(&name);
        }
        Ok(())
    })
}

/// Writes a file to the first folder that has room for it.
fn write_next_file(
    plan: &PackPlan,
    volume: &PlannedBundleFile,
    target: &mut PackFolders<'_>,
    hashes: &[blake3::Hash],
    feed: &ChunkReceiver,
    progress: &dyn Progress,
) -> Result<FinishedBundleFile, PackInterruption> {
    let name = plan.naming.file_name(volume.number);
    loop {
        let path = target.choose_folder(volume, progress)?.join(&name);
        progress.start_item(&name);
        let written = write_bundle_file(plan, volume, &path, hashes, feed, progress);
        progress.end_item(&name);
        match written {
            Ok(index_hash) => {
                // Its index is needed again when another disk is asked for.
                let index = BundleFile::open(&path)?.shared_index();
                let action = PackAction::Written;
                return Ok(FinishedBundleFile { path, action, index, index_hash });
            }
            // Somebody else writes to the disk too, or it holds less than it says.
            Err(FileInterruption::NoRoom) => target.leave_folder(progress)?,
            Err(FileInterruption::DiskFull { written }) => {
                target.leave_folder(progress)?;
                return Err(PackInterruption::DiskFull { written });
            }
            Err(FileInterruption::Stopped(stop)) => return Err(stop),
        }
    }
}

/// Why a bundle file was not written.
enum FileInterruption {
    /// Its disk has no room for it, which was found before anything of it was read.
    NoRoom,
    /// Its disk was full after so many bytes.
    DiskFull { written: u64 },
    /// Anything else.
    Stopped(PackInterruption),
}

fn write_bundle_file(
    plan: &PackPlan,
    volume: &PlannedBundleFile,
    path: &Path,
    hashes: &[blake3::Hash],
    feed: &ChunkReceiver,
    progress: &dyn Progress,
) -> Result<blake3::Hash, FileInterruption> {
    let part = part_path(path);
    let before = |cause| match disk_space::write_error(&part, volume.size, cause) {
        Error::NoSpace { .. } => FileInterruption::NoRoom,
        error => FileInterruption::Stopped(error.into()),
    };
    let file = create_part_file(&part).map_err(before)?;
    let written = disk_space::preallocate_file(&file, volume.size).map_err(before).and_then(|()| {
        let writer = BundleFileWriter::new(file, &part, volume, progress);
        writer.write(plan, hashes, feed).map_err(|stop| match stop {
            PackInterruption::Failed(Error::NoSpace { needed, .. }) => {
                FileInterruption::DiskFull { written: volume.size.saturating_sub(needed) }
            }
            stop => FileInterruption::Stopped(stop),
        })
    });
    match written {
        Ok(hash) => {
            let renamed = fs::rename(&part, path).map_err(|cause| write_error(path, cause));
            renamed.map(|()| hash).map_err(|error| FileInterruption::Stopped(error.into()))
        }
        Err(stop) => {
            // The first error is the one to report; if removing fails, the next run removes the
            // part.
            let _ = fs::remove_file(&part);
            Err(stop)
        }
    }
}

fn write_manifest(path: &Path, manifest: &BundleManifest) -> Result<()> {
    let part = part_path(path);
    let text = manifest.encode()?;
    create_part_file(&part)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&part, path))
        .map_err(|cause| disk_space::write_error(path, 0, cause))
}

/// The temporary path of a file that is not finished.
fn part_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// Creates an unfinished file anew. Others may write to a disk that is carried around: a link of that
/// name is removed, not written through.
fn create_part_file(part: &Path) -> std::io::Result<File> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (folder, name) = (part.parent().unwrap_or(Path::new("")), part.file_name());
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    ConfinedFolder::new(folder).create_new_file(name.unwrap_or_default())
}

fn write_error(path: &Path, cause: std::io::Error) -> Error {
    disk_space::write_error(path, 0, cause)
}
