//! Writes the bundle files of a plan: each blob is read once, files are written sequentially, each
//! under a temporary name until it is complete.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::Source;
use store::confined::ConfinedFolder;
use store::progress::{Progress, SilentProgress};

use crate::blob_reader::{self, ChunkReceiver, PackInterruption};
use crate::document::BundleManifest;
use crate::index::BundleEntry;
use crate::writer::BundleFileWriter;
use crate::{
    BundleFile, BundleId, Error, PackPlan, PlannedBundleFile, Result, disk_space, verify_file,
};

/// How long to wait for the folder's lock. It can outlive its pack for a moment: a child process
/// that is being started holds a copy of the locked file until it executes its program.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The pause between two attempts to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// How finished files of an earlier run are checked before they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// By their end records and indexes: takes a second at any size. Finds everything except damage
    /// that happened after the file was written.
    Index,
    /// By every byte.
    Everything,
}

/// What a pack wrote or kept.
#[derive(Debug, Clone)]
pub struct PackReport {
    /// The bundle's id.
    pub bundle: BundleId,
    /// The bundle files by number; empty for a stream.
    pub files: Vec<PackedBundleFile>,
    /// The path of the manifest next to them; `None` for a stream.
    pub manifest: Option<PathBuf>,
}

/// A bundle file on the disk.
#[derive(Debug, Clone)]
pub struct PackedBundleFile {
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it was written or kept.
    pub action: PackAction,
}

/// What was done for a bundle file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackAction {
    /// It is complete from an earlier run, and was left as it is.
    Kept,
    /// It was written.
    Written,
}

/// Writes the bundle files of the plan, and the manifest next to them, into `folder`. Finished
/// files of an interrupted run are kept. Files of another plan under the same names are replaced,
/// and those with higher numbers than the plan has are removed.
pub fn pack_to_folder(
    source: &dyn Source,
    plan: &PackPlan,
    folder: &Path,
    recheck: Recheck,
    progress: &dyn Progress,
) -> Result<PackReport> {
    fs::create_dir_all(folder).map_err(|cause| write_error(folder, cause))?;
    // Held until this function returns.
    let _lock = lock_folder(folder)?;
    remove_part_files(plan, folder)?;
    progress.expect_bytes(plan.size());
    let mut differing = Vec::new();
    loop {
        match try_pack(source, plan, folder, recheck, &differing, progress) {
            Ok(packed) => {
                remove_stale_files(plan, folder, progress)?;
                return Ok(packed);
            }
            Err(PackInterruption::Failed(error)) => return Err(error),
            // The kept file was written while its blob was damaged in the store; since then the
            // blob has been fetched again. Start over without keeping this file: each round
            // excludes one more, so the loop ends.
            Err(PackInterruption::KeptDiffers(number)) => differing.push(number),
        }
    }
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
        Err(PackInterruption::KeptDiffers(number)) => {
            Err(Error::Damaged { path: path.to_owned(), entry: format!("file {number}") })
        }
    }
}

/// One attempt: keeps the finished files, except those in `differing`, and writes the others.
fn try_pack(
    source: &dyn Source,
    plan: &PackPlan,
    folder: &Path,
    recheck: Recheck,
    differing: &[u32],
    progress: &dyn Progress,
) -> Result<PackReport, PackInterruption> {
    let kept = find_kept_files(plan, folder, recheck, differing);
    // Kept files are on the disk already: only the others need space.
    let missing = plan.files.iter().zip(&kept).filter(|(_, kept)| kept.is_none());
    disk_space::require_free_space(folder, missing.map(|(volume, _)| volume.size).sum())?;
    let mut hashes = Vec::with_capacity(plan.files.len());
    let mut volumes = Vec::with_capacity(plan.files.len());
    blob_reader::run_with_blob_reader(source, plan, &kept, |feed| {
        for (volume, kept) in plan.files.iter().zip(&kept) {
            let name = plan.naming.file_name(volume.number);
            let path = folder.join(&name);
            let outcome = if let Some(kept) = kept {
                hashes.push(kept.end_record().index_hash);
                progress.skip_bytes(volume.size);
                PackAction::Kept
            } else {
                progress.start_item(&name);
                let written = write_bundle_file(plan, volume, &path, &hashes, feed, progress);
                progress.end_item(&name);
                hashes.push(written?);
                PackAction::Written
            };
            progress.finish_item(&name);
            volumes.push(PackedBundleFile { path, size: volume.size, action: outcome });
        }
        Ok(())
    })?;
    // Last of all: where the manifest exists, all files do.
    let manifest = folder.join(plan.naming.manifest_name());
    write_manifest(&manifest, &BundleManifest::from_plan(plan, &hashes))?;
    Ok(PackReport { bundle: plan.id, files: volumes, manifest: Some(manifest) })
}

/// For each planned file, the finished one on the disk if it can be kept. A file is not kept when a
/// blob continues into it from a file that must be written: the end of each blob that is written is
/// then read, and its digest checked, in the same run.
fn find_kept_files(
    plan: &PackPlan,
    folder: &Path,
    recheck: Recheck,
    differing: &[u32],
) -> Vec<Option<BundleFile>> {
    let mut kept: Vec<Option<BundleFile>> = Vec::with_capacity(plan.files.len());
    for planned in &plan.files {
        // Entry 0 is `volume.json`. Where entry 1 does not begin its blob, it continues one.
        let goes_on = planned.index.entries.get(1).is_some_and(|entry| entry.blob_offset > 0);
        let is_cut_off = goes_on && kept.last().is_some_and(Option::is_none);
        if is_cut_off || differing.contains(&planned.number) {
            kept.push(None);
            continue;
        }
        let path = folder.join(plan.naming.file_name(planned.number));
        let volume =
            BundleFile::open(&path).ok().filter(|volume| is_planned(volume, planned, plan));
        kept.push(volume.filter(|_| match recheck {
            Recheck::Index => true,
            Recheck::Everything => {
                verify_file(&path, &SilentProgress).is_ok_and(|found| found.is_whole())
            }
        }));
    }
    kept
}

/// Whether a file on the disk is the planned one, apart from the hashes, which are not known yet.
fn is_planned(volume: &BundleFile, planned: &PlannedBundleFile, plan: &PackPlan) -> bool {
    let (found, wanted) = (volume.index(), &planned.index);
    let end = volume.end_record();
    let same = |(found, wanted): (&BundleEntry, &BundleEntry)| {
        BundleEntry { hash: wanted.hash, ..found.clone() } == *wanted
    };
    end.bundle == plan.id
        && end.number == planned.number
        && end.length == planned.size
        && found.roots == wanted.roots
        && found.entries.len() == wanted.entries.len()
        && found.entries.iter().zip(&wanted.entries).all(same)
}

fn write_bundle_file(
    plan: &PackPlan,
    volume: &PlannedBundleFile,
    path: &Path,
    hashes: &[blake3::Hash],
    feed: &ChunkReceiver,
    progress: &dyn Progress,
) -> Result<blake3::Hash, PackInterruption> {
    let part = part_path(path);
    let failed = |cause| disk_space::write_error(&part, volume.size, cause);
    let file = create_part_file(&part).map_err(failed)?;
    let written = disk_space::preallocate_file(&file, volume.size)
        .map_err(failed)
        .map_err(PackInterruption::from)
        .and_then(|()| {
            BundleFileWriter::new(file, &part, volume, progress).write(plan, hashes, feed)
        });
    match written {
        Ok(hash) => {
            fs::rename(&part, path).map_err(|cause| write_error(path, cause))?;
            Ok(hash)
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

/// Lets only one pack at a time write to a folder. The folder itself is locked, so that no lock
/// file is left on the media. Where the file system has no locks (some network mounts), nothing is
/// locked.
fn lock_folder(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: folder.to_owned() }),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
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

/// Removes unfinished files that a killed run left, before the free space is compared.
fn remove_part_files(plan: &PackPlan, folder: &Path) -> Result<()> {
    let prefix = format!(".{}-{}.", plan.naming.name(), plan.naming.version());
    let read = |cause| Error::Read { what: folder.display().to_string(), cause };
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_part = name.strip_prefix(&prefix).is_some_and(|rest| {
            rest == "gantry.json.part"
                || rest.strip_suffix(".gantry.part").is_some_and(is_file_number)
        });
        if is_part {
            fs::remove_file(entry.path()).map_err(|cause| write_error(&entry.path(), cause))?;
        }
    }
    Ok(())
}

/// Whether the text is the four digits that number a bundle file.
fn is_file_number(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes bundle files with higher numbers than the plan has, which an earlier pack under the same
/// name left. Only what opens as a bundle file is removed.
fn remove_stale_files(plan: &PackPlan, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let mut number = plan.files.len() as u32 + 1;
    loop {
        let path = folder.join(plan.naming.file_name(number));
        if BundleFile::open(&path).is_err() {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|cause| write_error(&path, cause))?;
        progress.add_note(&format!("removed {}, which an earlier pack left", path.display()));
        number += 1;
    }
}

fn write_error(path: &Path, cause: std::io::Error) -> Error {
    disk_space::write_error(path, 0, cause)
}
