//! Writing the volumes of a plan: one read pass over the blobs, sequential writes, each volume
//! under a temporary name until it is whole.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::Source;
use store::progress::{Progress, Silent};

use crate::document::Manifest;
use crate::feed::{self, Chunks, Stop};
use crate::index::Entry;
use crate::writer::VolumeWriter;
use crate::{BundleId, Error, Plan, PlannedVolume, Result, Volume, space, verify};

/// A lock outlives its pack for a moment where a child process was being started meanwhile (it has
/// the file until it executes its program), or where the other pack is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How often it is tried in that time.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// How finished volumes of an earlier run are looked at before they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// By end record and index: a second for any length. Finds everything but damage that came
    /// after the volume was written.
    Index,
    /// By every byte.
    Everything,
}

/// What was packed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The bundle's id.
    pub bundle: BundleId,
    /// The volumes by number; empty for a stream.
    pub volumes: Vec<PackedVolume>,
    /// The manifest beside them; `None` for a stream.
    pub manifest: Option<PathBuf>,
}

/// A volume on the disk.
#[derive(Debug, Clone)]
pub struct PackedVolume {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it had to be written.
    pub outcome: Outcome,
}

/// Whether a volume had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there from an earlier run.
    Kept,
    /// It was written.
    Written,
}

/// Writes the volumes of the plan, and the manifest beside them, into `folder`. Volumes of an
/// interrupted run are kept. Volumes of another plan under the same names are replaced, and those
/// that the plan does not have any more are removed.
pub fn pack(
    source: &dyn Source,
    plan: &Plan,
    folder: &Path,
    recheck: Recheck,
    progress: &dyn Progress,
) -> Result<Packed> {
    fs::create_dir_all(folder).map_err(|cause| write_error(folder, cause))?;
    let _lock = lock(folder)?;
    remove_parts(plan, folder)?;
    progress.expect(plan.size());
    let mut differing = Vec::new();
    loop {
        match attempt(source, plan, folder, recheck, &differing, progress) {
            Ok(packed) => {
                remove_stale(plan, folder, progress)?;
                return Ok(packed);
            }
            Err(Stop::Failed(error)) => return Err(error),
            // Its blob was damaged when it was written, and has been fetched again since.
            Err(Stop::KeptDiffers(number)) => differing.push(number),
        }
    }
}

/// Writes a plan of one volume to a stream.
pub fn stream(
    source: &dyn Source,
    plan: &Plan,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Packed> {
    let [volume] = plan.volumes.as_slice() else {
        return Err(Error::NotOneVolume { count: plan.volumes.len() });
    };
    progress.expect(plan.size());
    let path = Path::new("the stream");
    let written = feed::with_chunks(source, plan, &[None], |feed| {
        VolumeWriter::new(&mut *out, path, volume, progress).write(plan, &[], feed)
    });
    match written {
        Ok(_) => Ok(Packed { bundle: plan.id, volumes: vec![], manifest: None }),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::KeptDiffers(number)) => {
            Err(Error::Damaged { path: path.to_owned(), entry: format!("volume {number}") })
        }
    }
}

fn attempt(
    source: &dyn Source,
    plan: &Plan,
    folder: &Path,
    recheck: Recheck,
    differing: &[u32],
    progress: &dyn Progress,
) -> Result<Packed, Stop> {
    let kept = kept(plan, folder, recheck, differing);
    let missing = plan.volumes.iter().zip(&kept).filter(|(_, kept)| kept.is_none());
    space::need(folder, missing.map(|(volume, _)| volume.size).sum())?;
    let mut hashes = Vec::with_capacity(plan.volumes.len());
    let mut volumes = Vec::with_capacity(plan.volumes.len());
    feed::with_chunks(source, plan, &kept, |feed| {
        for (volume, kept) in plan.volumes.iter().zip(&kept) {
            let path = folder.join(plan.naming.file_name(volume.number));
            let outcome = if let Some(kept) = kept {
                hashes.push(kept.end().index_hash);
                progress.skip(volume.size);
                Outcome::Kept
            } else {
                hashes.push(write_file(plan, volume, &path, &hashes, feed, progress)?);
                Outcome::Written
            };
            progress.done(&plan.naming.file_name(volume.number));
            volumes.push(PackedVolume { path, size: volume.size, outcome });
        }
        Ok(())
    })?;
    let manifest = folder.join(plan.naming.manifest_name());
    write_manifest(&manifest, &Manifest::of(plan, &hashes))?;
    Ok(Packed { bundle: plan.id, volumes, manifest: Some(manifest) })
}

/// Finished volumes that are those of the plan. A volume behind a missing one is not kept when a
/// blob goes on from there into it: so the end of every blob that is written is read, and checked,
/// in the same run.
fn kept(plan: &Plan, folder: &Path, recheck: Recheck, differing: &[u32]) -> Vec<Option<Volume>> {
    let mut kept: Vec<Option<Volume>> = Vec::with_capacity(plan.volumes.len());
    for planned in &plan.volumes {
        let goes_on = planned.index.entries.get(1).is_some_and(|entry| entry.place > 0);
        let is_cut_off = goes_on && kept.last().is_some_and(Option::is_none);
        if is_cut_off || differing.contains(&planned.number) {
            kept.push(None);
            continue;
        }
        let path = folder.join(plan.naming.file_name(planned.number));
        let volume = Volume::open(&path).ok().filter(|volume| is_planned(volume, planned, plan));
        kept.push(volume.filter(|_| match recheck {
            Recheck::Index => true,
            Recheck::Everything => verify(&path, &Silent).is_ok_and(|found| found.is_whole()),
        }));
    }
    kept
}

fn is_planned(volume: &Volume, planned: &PlannedVolume, plan: &Plan) -> bool {
    let (found, wanted) = (volume.index(), &planned.index);
    let end = volume.end();
    let same =
        |(found, wanted): (&Entry, &Entry)| Entry { hash: wanted.hash, ..found.clone() } == *wanted;
    end.bundle == plan.id
        && end.number == planned.number
        && end.length == planned.size
        && found.roots == wanted.roots
        && found.entries.len() == wanted.entries.len()
        && found.entries.iter().zip(&wanted.entries).all(same)
}

fn write_file(
    plan: &Plan,
    volume: &PlannedVolume,
    path: &Path,
    hashes: &[blake3::Hash],
    feed: &Chunks,
    progress: &dyn Progress,
) -> Result<blake3::Hash, Stop> {
    let part = part_path(path);
    let failed = |cause| space::write_error(&part, volume.size, cause);
    let file = File::create(&part).map_err(failed)?;
    let written = space::preallocate(&file, volume.size)
        .map_err(failed)
        .map_err(Stop::from)
        .and_then(|()| VolumeWriter::new(file, &part, volume, progress).write(plan, hashes, feed));
    match written {
        Ok(hash) => {
            fs::rename(&part, path).map_err(|cause| write_error(path, cause))?;
            Ok(hash)
        }
        Err(stop) => {
            // The first error is the one that counts; the next run removes the part as well.
            let _ = fs::remove_file(&part);
            Err(stop)
        }
    }
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<()> {
    let part = part_path(path);
    fs::write(&part, manifest.encode()?)
        .and_then(|()| fs::rename(&part, path))
        .map_err(|cause| space::write_error(path, 0, cause))
}

/// One pack at a time writes to a folder. A lock on the folder itself leaves no file behind on the
/// media; where the file system has no locks (some network mounts) there is none.
fn lock(folder: &Path) -> Result<Option<File>> {
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

/// The name of an unfinished file.
fn part_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// Removes what a killed run left, before room is counted.
fn remove_parts(plan: &Plan, folder: &Path) -> Result<()> {
    let prefix = format!(".{}-{}.", plan.naming.name(), plan.naming.version());
    let read = |cause| Error::Read { what: folder.display().to_string(), cause };
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_part = name.strip_prefix(&prefix).is_some_and(|rest| {
            rest == "gantry.json.part" || rest.strip_suffix(".gantry.part").is_some_and(is_number)
        });
        if is_part {
            fs::remove_file(entry.path()).map_err(|cause| write_error(&entry.path(), cause))?;
        }
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes volumes behind the last one, which an earlier pack under the same name left. Only what
/// is a volume for certain.
fn remove_stale(plan: &Plan, folder: &Path, progress: &dyn Progress) -> Result<()> {
    let mut number = plan.volumes.len() as u32 + 1;
    loop {
        let path = folder.join(plan.naming.file_name(number));
        if Volume::open(&path).is_err() {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|cause| write_error(&path, cause))?;
        progress.note(&format!("removed {}, a volume of an earlier pack", path.display()));
        number += 1;
    }
}

fn write_error(path: &Path, cause: std::io::Error) -> Error {
    space::write_error(path, 0, cause)
}
