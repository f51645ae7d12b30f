//! The folders that a pack fills, one after the other: which files are there already, where the next one
//! goes, and who is asked when all are full.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::progress::{Progress, SilentProgress};

use crate::blob_reader::PackInterruption;
use crate::document::BundleManifest;
use crate::index::{BundleEntry, BundleIndex};
use crate::pack_report::{PackAction, Recheck};
use crate::{BundleFile, Error, PackPlan, PlannedBundleFile, Result, disk_space, verify_file};

/// How long to wait for the folder's lock. It can outlive its pack for a moment: a child process
/// that is being started holds a copy of the locked file until it executes its program.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The pause between two attempts to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Gives a pack more folders when those that it has are full: asks a person for the next disk.
pub trait FolderSupply {
    /// The next folder, or `None` to stop. It may be the same path again, with another disk. Nothing in
    /// the folders that are full is open any more, so that their disks can be unmounted.
    fn request_folder(&self, request: &FolderRequest) -> Option<PathBuf>;
}

/// What a pack needs more space for.
#[derive(Debug, Clone)]
pub struct FolderRequest {
    /// The folder that is full.
    pub full: PathBuf,
    /// Bytes that are free there.
    pub free: u64,
    /// The name of the next file.
    pub file: String,
    /// The bytes that it takes.
    pub needed: u64,
    /// The files that are not written yet.
    pub files_left: usize,
    /// Their length together, in bytes.
    pub bytes_left: u64,
}

/// Where a bundle file would go, or is.
#[derive(Debug, Clone)]
pub struct BundleFilePreview {
    /// Its path; `None` where no folder has room for it.
    pub path: Option<PathBuf>,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it is there already, complete.
    pub is_finished: bool,
}

/// Where the files of a plan would go. Nothing is written, and the folders need not exist.
///
/// # Errors
/// The free space of a folder cannot be found out.
pub fn preview_pack(plan: &PackPlan, folders: &[PathBuf]) -> Result<Vec<BundleFilePreview>> {
    let mut finished = vec![None; plan.files.len()];
    find_finished_files(plan, folders, Recheck::Index, &[], &mut finished);
    let placed = place_files(plan, folders, &finished)?;
    let files = plan.files.iter().zip(finished).zip(placed).map(|((volume, finished), folder)| {
        let name = plan.naming.file_name(volume.number);
        BundleFilePreview {
            is_finished: finished.is_some(),
            path: match finished {
                Some(file) => Some(file.path),
                None => folder.map(|at| folders[at].join(name)),
            },
            size: volume.size,
        }
    });
    Ok(files.collect())
}

/// A bundle file that is complete. It is not kept open: its disk may be unmounted for the next one.
#[derive(Debug, Clone)]
pub(crate) struct FinishedBundleFile {
    pub(crate) path: PathBuf,
    pub(crate) action: PackAction,
    pub(crate) index: Arc<BundleIndex>,
    pub(crate) index_hash: blake3::Hash,
}

/// The folders of a pack.
pub(crate) struct PackFolders<'a> {
    plan: &'a PackPlan,
    supply: Option<&'a dyn FolderSupply>,
    recheck: Recheck,
    /// All folders so far.
    given: Vec<PathBuf>,
    /// The folders that are not full. The first one is being written to.
    open: VecDeque<PackFolder>,
    /// For each planned file, whether it is complete.
    pub(crate) finished: Vec<Option<FinishedBundleFile>>,
    /// The numbers of finished files whose bytes differ from what the source has now.
    differing: Vec<u32>,
}

/// A folder that only this pack writes to.
struct PackFolder {
    path: PathBuf,
    _lock: Option<File>,
}

impl PackFolder {
    /// Creates and locks a folder, and removes what a killed run left unfinished in it.
    fn open(plan: &PackPlan, path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|cause| disk_space::write_error(path, 0, cause))?;
        let lock = lock_folder(path)?;
        remove_part_files(plan, path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

impl<'a> PackFolders<'a> {
    /// Opens the folders, finds the finished files in them, and checks that the others have room.
    pub(crate) fn open(
        plan: &'a PackPlan,
        folders: &[PathBuf],
        supply: Option<&'a dyn FolderSupply>,
        recheck: Recheck,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut all = Self {
            plan,
            supply,
            recheck,
            given: Vec::new(),
            open: VecDeque::new(),
            finished: vec![None; plan.files.len()],
            differing: Vec::new(),
        };
        for folder in folders {
            all.add_folder(folder)?;
        }
        all.check_space(progress)?;
        Ok(all)
    }

    /// Adds a folder, and the finished files in it.
    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).map_err(|cause| disk_space::write_error(folder, 0, cause))?;
        // Given twice (or by two names), it would wait for its own lock.
        let same = |open: &PackFolder| is_same_folder(&open.path, folder);
        if !self.open.iter().any(same) {
            self.open.push_back(PackFolder::open(self.plan, folder)?);
            if !self.given.iter().any(|given| given == folder) {
                self.given.push(folder.to_owned());
            }
        }
        self.find_finished_files();
        Ok(())
    }

    fn find_finished_files(&mut self) {
        let folders: Vec<PathBuf> = self.open.iter().map(|open| open.path.clone()).collect();
        let differing = &self.differing;
        find_finished_files(self.plan, &folders, self.recheck, differing, &mut self.finished);
    }

    /// Writes a finished file again, since its bytes are not those that the source has now.
    pub(crate) fn forget_file(&mut self, number: u32) {
        self.differing.push(number);
        if let Some(file) = self.finished.get_mut(number as usize - 1) {
            *file = None;
        }
        self.find_finished_files();
    }

    /// The files that are not finished.
    fn unfinished_files(&self) -> impl Iterator<Item = &PlannedBundleFile> {
        let files = self.plan.files.iter().zip(&self.finished);
        files.filter(|(_, finished)| finished.is_none()).map(|(volume, _)| volume)
    }

    /// Checks before the first byte that all files have room, or that somebody can be asked for more.
    fn check_space(&self, progress: &dyn Progress) -> Result<()> {
        let folders: Vec<PathBuf> = self.open.iter().map(|open| open.path.clone()).collect();
        let placed = place_files(self.plan, &folders, &self.finished)?;
        let files = self.plan.files.iter().zip(&self.finished).zip(&placed);
        let homeless: Vec<&PlannedBundleFile> = files
            .filter(|((_, finished), folder)| finished.is_none() && folder.is_none())
            .map(|((volume, _), _)| volume)
            .collect();
        match (homeless.first(), self.supply) {
            (None, _) => Ok(()),
            (Some(_), None) if self.given.len() == 1 => {
                Err(self.no_space_error(&self.unfinished_files().collect::<Vec<_>>()))
            }
            (Some(_), None) => Err(self.no_space_error(&homeless)),
            (Some(_), Some(_)) => {
                progress.add_note(&format!(
                    "{} of {} bundle files have room; the next disk is asked for when this one is full",
                    self.plan.files.len() - homeless.len(),
                    self.plan.files.len()
                ));
                Ok(())
            }
        }
    }

    /// The folder that the next file goes to. Full folders are left behind.
    pub(crate) fn choose_folder(
        &mut self,
        volume: &PlannedBundleFile,
        progress: &dyn Progress,
    ) -> Result<PathBuf, PackInterruption> {
        let needed = needed_space(self.plan, volume);
        let mut full = None;
        while let Some(folder) = self.open.front() {
            let path = folder.path.clone();
            let free = read_free_space(&path)?;
            if free >= needed {
                return Ok(path);
            }
            full = Some((path, free));
            self.leave_folder(progress)?;
        }
        let left: Vec<&PlannedBundleFile> = self.unfinished_files().collect();
        let Some(supply) = self.supply else { return Err(self.no_space_error(&left).into()) };
        let (full, free) = match full {
            Some(full) => full,
            None => {
                let last = self.given.last().cloned().unwrap_or_default();
                let free = read_free_space(&last).unwrap_or(0);
                (last, free)
            }
        };
        let request = FolderRequest {
            full,
            free,
            file: self.plan.naming.file_name(volume.number),
            needed,
            files_left: left.len(),
            bytes_left: left.iter().map(|volume| volume.size).sum(),
        };
        let error = self.no_space_error(&left);
        while let Some(folder) = supply.request_folder(&request) {
            match self.add_folder(&folder) {
                // What it has already changes what is read from the source.
                Ok(()) => return Err(PackInterruption::FolderAdded),
                Err(error) => progress.add_note(&error.to_string()),
            }
        }
        Err(error.into())
    }

    /// Leaves the first folder: nothing more is written to it, and nothing in it is open.
    pub(crate) fn leave_folder(&mut self, progress: &dyn Progress) -> Result<()> {
        match self.open.pop_front() {
            Some(folder) => self.remove_stale_files(&folder.path, progress),
            None => Ok(()),
        }
    }

    /// Leaves all folders that are still open.
    pub(crate) fn leave_all_folders(&mut self, progress: &dyn Progress) -> Result<()> {
        while !self.open.is_empty() {
            self.leave_folder(progress)?;
        }
        Ok(())
    }

    /// Removes bundle files of the plan's name that are none of its finished files: higher numbers of an
    /// earlier pack, and the same number beside another folder's. Only what opens as a bundle file is
    /// removed.
    fn remove_stale_files(&self, folder: &Path, progress: &dyn Progress) -> Result<()> {
        let prefix = format!("{}-{}.", self.plan.naming.name(), self.plan.naming.version());
        for name in list_names(folder)? {
            let number = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".gantry"));
            let Some(number) = number.filter(|number| is_file_number(number)) else { continue };
            let path = folder.join(&name);
            let place = number.parse::<usize>().unwrap_or_default().checked_sub(1);
            let finished = place.and_then(|place| self.finished.get(place)?.as_ref());
            if finished.is_some_and(|file| file.path == path) || BundleFile::open(&path).is_err() {
                continue;
            }
            fs::remove_file(&path).map_err(|cause| disk_space::write_error(&path, 0, cause))?;
            progress.add_note(&format!("removed {}, which an earlier pack left", path.display()));
        }
        Ok(())
    }

    fn no_space_error(&self, files: &[&PlannedBundleFile]) -> Error {
        let needed = files.iter().map(|volume| volume.size).sum();
        match self.given.as_slice() {
            [folder] => Error::NoSpace {
                path: folder.clone(),
                needed,
                free: read_free_space(folder).unwrap_or(0),
            },
            folders => Error::FoldersFull {
                folders: folders.to_vec(),
                first: files
                    .first()
                    .map(|volume| self.plan.naming.file_name(volume.number))
                    .unwrap_or_default(),
                count: files.len(),
                needed,
            },
        }
    }
}

/// For each file that is not finished, the position of the folder that it would go to: the folders are
/// filled one after the other.
fn place_files(
    plan: &PackPlan,
    folders: &[PathBuf],
    finished: &[Option<FinishedBundleFile>],
) -> Result<Vec<Option<usize>>> {
    // By device: two folders may be on the same disk.
    let mut free: HashMap<u64, u64> = HashMap::new();
    let mut disks = Vec::with_capacity(folders.len());
    for folder in folders {
        let existing = find_existing_folder(folder);
        let read = |cause| Error::Read { what: folder.display().to_string(), cause };
        let device = fs::metadata(existing).map_err(read)?.dev();
        if let std::collections::hash_map::Entry::Vacant(entry) = free.entry(device) {
            entry.insert(read_free_space(existing)?);
        }
        disks.push(device);
    }
    let mut at = 0;
    let place = |(volume, finished): (&PlannedBundleFile, &Option<FinishedBundleFile>)| {
        if finished.is_some() {
            return None;
        }
        while let Some(left) = disks.get(at).and_then(|device| free.get_mut(device)) {
            if *left >= needed_space(plan, volume) {
                *left -= volume.size;
                return Some(at);
            }
            at += 1;
        }
        None
    };
    Ok(plan.files.iter().zip(finished).map(place).collect())
}

/// The bytes that a file takes, with the manifest that is written beside the last one.
fn needed_space(plan: &PackPlan, volume: &PlannedBundleFile) -> u64 {
    if (volume.number as usize) < plan.files.len() {
        return volume.size;
    }
    // The hashes are not known yet, but their length is.
    let hashes = vec![blake3::Hash::from_bytes([0; 32]); plan.files.len()];
    let manifest = BundleManifest::from_plan(plan, &hashes).encode();
    volume.size + manifest.map_or(0, |bytes| bytes.len() as u64)
}

/// Finds the planned files that are complete in these folders. A file does not count when a blob
/// continues into it from a file that must be written: the end of each blob that is written is then
/// read, and its digest checked, in the same run.
fn find_finished_files(
    plan: &PackPlan,
    folders: &[PathBuf],
    recheck: Recheck,
    differing: &[u32],
    finished: &mut [Option<FinishedBundleFile>],
) {
    let mut is_before_finished = true;
    for (planned, file) in plan.files.iter().zip(finished) {
        // Entry 0 is `volume.json`. Where entry 1 does not begin its blob, it continues one.
        let goes_on = planned.index.entries.get(1).is_some_and(|entry| entry.blob_offset > 0);
        if goes_on && !is_before_finished {
            *file = None;
        } else if file.is_none() && !differing.contains(&planned.number) {
            let name = plan.naming.file_name(planned.number);
            let found = folders
                .iter()
                .find_map(|folder| open_finished_file(plan, planned, folder.join(&name), recheck));
            *file = found;
        }
        is_before_finished = file.is_some();
    }
}

/// The file at a path, if it is the planned one and complete.
fn open_finished_file(
    plan: &PackPlan,
    planned: &PlannedBundleFile,
    path: PathBuf,
    recheck: Recheck,
) -> Option<FinishedBundleFile> {
    let volume =
        BundleFile::open(&path).ok().filter(|volume| is_planned_file(volume, planned, plan))?;
    let is_whole = match recheck {
        Recheck::Index => true,
        Recheck::Everything => {
            verify_file(&path, &SilentProgress).is_ok_and(|found| found.is_whole())
        }
    };
    is_whole.then(|| FinishedBundleFile {
        path,
        action: PackAction::Kept,
        index: volume.shared_index(),
        index_hash: volume.end_record().index_hash,
    })
}

/// Whether a file on the disk is the planned one, apart from the hashes, which are not known yet.
fn is_planned_file(volume: &BundleFile, planned: &PlannedBundleFile, plan: &PackPlan) -> bool {
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

fn read_free_space(folder: &Path) -> Result<u64> {
    disk_space::free_space(folder)
        .map_err(|cause| Error::Read { what: folder.display().to_string(), cause })
}

/// The folder itself, or what there is of its path.
fn find_existing_folder(folder: &Path) -> &Path {
    let existing = folder.ancestors().find(|path| path.exists());
    existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some_and(|id| identity(other) == Some(id))
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

/// Removes unfinished files that a killed run left, before the free space is compared.
fn remove_part_files(plan: &PackPlan, folder: &Path) -> Result<()> {
    let prefix = format!(".{}-{}.", plan.naming.name(), plan.naming.version());
    for name in list_names(folder)? {
        let is_part = name.strip_prefix(&prefix).is_some_and(|rest| {
            rest == "gantry.json.part"
                || rest.strip_suffix(".gantry.part").is_some_and(is_file_number)
        });
        if is_part {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|cause| disk_space::write_error(&path, 0, cause))?;
        }
    }
    Ok(())
}

/// The names of a folder's entries, as far as they are UTF-8; the names of bundle files are.
fn list_names(folder: &Path) -> Result<Vec<String>> {
    let read = |cause| Error::Read { what: folder.display().to_string(), cause };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        names.extend(entry.map_err(read)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Whether the text is the four digits that number a bundle file.
fn is_file_number(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}
