//! One command, measured: wall time, processor seconds and peak memory as the kernel counted them
//! for its whole process tree, and how much room it took on the disk at its worst moment.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the folders are looked at. A look is some fifty `stat` calls: no load.
const DISK_POLL: Duration = Duration::from_millis(50);
/// `st_blocks` counts in these (stat(2)), whatever the file system's own blocks are.
const STAT_BLOCK: u64 = 512;

/// What is touched before a measurement: more than any step of the corpus writes.
const WARM: usize = 1700 << 20;
/// One write of it, as long as those of the tools: longer ones take other memory.
const WARM_CHUNK: usize = 64 << 10;

/// What a command has used.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Sample {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Processor seconds, user and system, of the command and all that it started.
    pub(crate) cpu: f64,
    /// `ru_maxrss` of the largest process of the tree, in bytes.
    pub(crate) memory: f64,
    /// Bytes on the disk at the peak, beyond those that were there before.
    pub(crate) disk: f64,
}

/// Runs a command to its end. `watched` are the folders that it writes to.
///
/// What other runs have left to the page cache is written out before, so that nobody pays for it,
/// and memory is touched: a virtual machine may have given free pages back to its host (free page
/// reporting), and who writes first then pays for all of them, up to a second a gigabyte.
pub(super) fn measure(command: &mut Command, watched: &[&Path]) -> Result<Sample, Box<dyn Error>> {
    sync()?;
    warm()?;
    measure_command(command, watched)
}

/// As [`measure`], on a machine as it is.
pub(crate) fn measure_command(
    command: &mut Command,
    watched: &[&Path],
) -> Result<Sample, Box<dyn Error>> {
    let log = tempfile::NamedTempFile::new()?;
    let before = disk(watched);
    let ended = AtomicBool::new(false);
    let (outcome, wall, peak) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = before;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(disk(watched));
                thread::sleep(DISK_POLL);
            }
            peak
        });
        let start = Instant::now();
        let outcome = start_quietly(command, log.path()).and_then(wait4::Wait4::wait4);
        let wall = start.elapsed();
        ended.store(true, Ordering::Relaxed);
        (outcome, wall, watcher.join().unwrap_or(before))
    });
    let used = outcome.map_err(|error| format!("{command:?}: {error} (run dev/setup)"))?;
    if !used.status.success() {
        let said = fs::read_to_string(log.path())?;
        return Err(format!("{command:?} failed ({}):\n{said}", used.status).into());
    }
    Ok(Sample {
        wall: wall.as_secs_f64(),
        cpu: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        memory: used.rusage.maxrss as f64,
        disk: peak.max(disk(watched)).saturating_sub(before) as f64,
    })
}

/// A binary in a folder, with nothing of the user's configuration; its store is `store` in the folder.
pub(crate) fn prepare_gantry(gantry: &Path, folder: &Path) -> Command {
    let mut command = Command::new(gantry);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("GANTRY_STORE", folder.join("store"))
        .env("GANTRY_CONFIG", folder.join("config.yaml"));
    command
}

/// The middle sample, each of its figures for itself.
pub(super) fn median(samples: &[Sample]) -> Option<Sample> {
    Some(Sample {
        wall: middle(samples.iter().map(|sample| sample.wall))?,
        cpu: middle(samples.iter().map(|sample| sample.cpu))?,
        memory: middle(samples.iter().map(|sample| sample.memory))?,
        disk: middle(samples.iter().map(|sample| sample.disk))?,
    })
}

/// The median; of an even number the mean of the two in the middle.
pub(super) fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// The bytes that folders take on the disk; what is not there takes none.
pub(super) fn disk(folders: &[&Path]) -> u64 {
    folders.iter().map(|folder| folder_blocks(folder) * STAT_BLOCK).sum()
}

/// Waits until all that was written is on the disk.
pub(super) fn sync() -> Result<(), Box<dyn Error>> {
    if !Command::new("sync").status()?.success() {
        return Err("sync failed".into());
    }
    Ok(())
}

/// Takes page cache and frees it again: a file that is removed before it reaches the disk.
fn warm() -> Result<(), Box<dyn Error>> {
    let mut file = tempfile::tempfile_in("target")?;
    let chunk = vec![0; WARM_CHUNK];
    for _ in 0..WARM / WARM_CHUNK {
        file.write_all(&chunk)?;
    }
    Ok(())
}

/// Both outputs go to a file: a terminal would be part of the measurement.
fn start_quietly(command: &mut Command, log: &Path) -> std::io::Result<std::process::Child> {
    let file = File::create(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()
}

fn folder_blocks(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_blocks(&entry.path()),
            Ok(metadata) => metadata.blocks(),
            // Renamed or removed between the listing and the look.
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_median_does_not_care_for_one_bad_run() {
        assert_eq!(middle([3.0, 900.0, 1.0].into_iter()), Some(3.0));
        assert_eq!(middle([1.0, 2.0].into_iter()), Some(1.5));
        assert_eq!(middle(std::iter::empty()), None);
    }

    #[test]
    fn what_a_child_of_the_command_uses_is_counted_and_a_failure_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let script = format!("head -c 8000000 /dev/urandom > {}", file.display());
        let sample =
            measure_command(Command::new("sh").args(["-c", &script]), &[folder.path()]).unwrap();
        assert!(sample.disk >= 8e6, "{sample:?}");
        assert!(sample.wall > 0.0 && sample.memory > 0.0, "{sample:?}");
        assert!(measure_command(&mut Command::new("false"), &[]).is_err());
    }
}
