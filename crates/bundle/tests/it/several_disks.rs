//! A bundle over several small disks: they are filled one after the other, the next one is asked for, and
//! all files together are the bundle.
// Mounts are Linux's here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::common::{SMALL, World, volumes};
use gantry_bundle::{
    Bundle, Error, FolderRequest, FolderSupply, PackAction, PackPlan, PackReport, Recheck,
};
use store::progress::{Progress, SilentProgress};
use testkit::Tmpfs;

/// More than a third of the sample's bundle, in files of 64 KiB.
const DISK: u64 = 3 << 19;

fn pack(
    world: &World,
    folders: &[&Path],
    supply: Option<&dyn FolderSupply>,
) -> Result<PackReport, Error> {
    pack_with(world, folders, supply, &SilentProgress)
}

fn pack_with(
    world: &World,
    folders: &[&Path],
    supply: Option<&dyn FolderSupply>,
    progress: &dyn Progress,
) -> Result<PackReport, Error> {
    let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    let plan = world.plan(SMALL);
    let (store, recheck) = (&world.store, Recheck::Index);
    gantry_bundle::pack_to_folders(store, &plan, &folders, supply, recheck, progress)
}

/// Enough disks for the plan, of so many bytes each.
fn make_disks(plan: &PackPlan, bytes: u64) -> Vec<Tmpfs> {
    let count = plan.size() / bytes + 2;
    (0..count).map(|_| Tmpfs::new(bytes)).collect()
}

/// All files of the folders, copied into one, are those that a pack into one folder makes.
fn assert_same_as_in_one_folder(world: &World, folders: &[&Path]) {
    let whole = world.folder.path().join("whole");
    world.pack_to(SMALL, &whole);
    let gathered = tempfile::tempdir().unwrap();
    for folder in folders {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let copy = gathered.path().join(path.file_name().unwrap());
            assert!(!copy.exists(), "{} is in two folders", path.display());
            fs::copy(&path, copy).unwrap();
        }
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(gathered.path()), names(&whole));
    for name in names(&whole) {
        let read = |folder: &Path| fs::read(folder.join(&name)).unwrap();
        assert!(read(gathered.path()) == read(&whole), "{}", name.display());
    }
}

#[test]
fn folders_are_filled_one_after_the_other_and_together_are_the_bundle() {
    let world = World::new();
    let disks = make_disks(&world.plan(SMALL), DISK);
    let folders: Vec<&Path> = disks.iter().map(Tmpfs::path).collect();

    let packed = pack(&world, &folders, None).unwrap();

    assert!(packed.files.iter().all(|file| file.action == PackAction::Written));
    let used: Vec<&&Path> = folders.iter().filter(|folder| !volumes(folder).is_empty()).collect();
    assert!(used.len() >= 3, "{used:?}");
    // In the order of their numbers.
    let all: Vec<PathBuf> = used.iter().flat_map(|folder| volumes(folder)).collect();
    assert_eq!(all, packed.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
    assert_eq!(packed.manifest.unwrap().parent(), used.last().map(|folder| **folder));
    assert_same_as_in_one_folder(&world, &folders);
    Bundle::open(&all).unwrap();
    // Without the first disk's: named by file name and number.
    let error = Bundle::open(&all[1..]).unwrap_err();
    assert!(error.to_string().contains("test-1.0.0001.gantry"), "{error}");

    let again = pack(&world, &folders, None).unwrap();
    assert!(again.files.iter().all(|file| file.action == PackAction::Kept));
}

#[test]
fn too_little_room_in_all_folders_together_is_told_before_the_first_byte() {
    let world = World::new();
    let disks = [Tmpfs::new(DISK), Tmpfs::new(DISK)];
    let folders = [disks[0].path(), disks[1].path()];
    let plan = world.plan(SMALL);

    let preview = gantry_bundle::preview_pack(&plan, &folders.map(Path::to_owned)).unwrap();
    let homeless = preview.iter().filter(|file| file.path.is_none()).count();
    let error = pack(&world, &folders, None).unwrap_err();

    let Error::FoldersFull { count, first, needed, .. } = &error else { panic!("{error}") };
    assert_eq!(*count, homeless);
    assert!(homeless > 0 && *needed >= plan.size() - 2 * DISK);
    assert!(first.ends_with(".gantry") && error.to_string().contains(first.as_str()), "{error}");
    assert!(folders.iter().all(|folder| fs::read_dir(folder).unwrap().next().is_none()));
}

#[test]
fn two_folders_of_one_disk_have_its_room_once() {
    let world = World::new();
    let disk = Tmpfs::new(world.plan(SMALL).size() * 3 / 4);
    let (one, two) = (disk.path().join("one"), disk.path().join("two"));

    let error = pack(&world, &[&one, &two], None).unwrap_err();

    assert!(matches!(error, Error::FoldersFull { .. }), "{error}");
    // The same folder by two names is one folder.
    let large = tempfile::tempdir().unwrap();
    pack(&world, &[large.path(), &large.path().join(".")], None).unwrap();
    assert_same_as_in_one_folder(&world, &[large.path()]);
}

/// The files of a disk: names with content.
type DiskFiles = Vec<(String, Vec<u8>)>;

/// Swaps the disk at one path, as a person does, and remembers what was asked.
struct DiskSwapper {
    /// The place where disks are put in.
    place: PathBuf,
    /// The disks: the first is in.
    disks: RefCell<Vec<DiskFiles>>,
    asked: RefCell<Vec<FolderRequest>>,
    /// Answers without an end after so many disks.
    most: usize,
}

impl FolderSupply for DiskSwapper {
    fn request_folder(&self, request: &FolderRequest) -> Option<PathBuf> {
        self.asked.borrow_mut().push(request.clone());
        if self.asked.borrow().len() > self.most {
            return None;
        }
        self.take_out();
        Some(self.place.clone())
    }
}

impl DiskSwapper {
    /// Takes all files out of the place.
    fn take_out(&self) {
        let mut disk = Vec::new();
        for entry in fs::read_dir(&self.place).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            disk.push((name, fs::read(&path).unwrap()));
            fs::remove_file(path).unwrap();
        }
        self.disks.borrow_mut().push(disk);
    }

    fn new(place: &Path, most: usize) -> Self {
        let (disks, asked) = (RefCell::default(), RefCell::default());
        Self { place: place.to_owned(), disks, asked, most }
    }
}

#[test]
fn the_next_disk_is_asked_for_and_may_be_at_the_same_path() {
    let world = World::new();
    let drive = Tmpfs::new(DISK);
    let swapper = DiskSwapper::new(drive.path(), usize::MAX);

    let packed = pack(&world, &[drive.path()], Some(&swapper)).unwrap();

    swapper.take_out();
    let disks = swapper.disks.into_inner();
    assert!(disks.len() >= 3, "{}", disks.len());
    let asked = swapper.asked.into_inner();
    assert_eq!(asked.len(), disks.len() - 1);
    assert!(asked.iter().all(|request| request.full == drive.path()));
    assert!(asked.iter().all(|request| request.free < request.needed));
    assert!(asked.windows(2).all(|two| two[1].bytes_left < two[0].bytes_left));
    let gathered = tempfile::tempdir().unwrap();
    for (name, bytes) in disks.into_iter().flatten() {
        fs::write(gathered.path().join(name), bytes).unwrap();
    }
    assert_same_as_in_one_folder(&world, &[gathered.path()]);
    assert_eq!(packed.files.len(), volumes(gathered.path()).len());
}

#[test]
fn a_person_who_stops_keeps_what_was_finished() {
    let world = World::new();
    let drive = Tmpfs::new(DISK);
    let swapper = DiskSwapper::new(drive.path(), 1);

    let error = pack(&world, &[drive.path()], Some(&swapper)).unwrap_err();

    assert!(matches!(error, Error::NoSpace { .. } | Error::FoldersFull { .. }), "{error}");
    let first = swapper.disks.into_inner().remove(0);
    let names: Vec<&String> = first.iter().map(|(name, _)| name).collect();
    assert!(names.contains(&&"test-1.0.0001.gantry".to_owned()), "{names:?}");
    // The rest goes on with both disks in.
    let (one, large) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, bytes) in &first {
        fs::write(one.path().join(name), bytes).unwrap();
    }
    let packed = pack(&world, &[one.path(), drive.path(), large.path()], None);
    let kept = packed.unwrap().files.iter().filter(|f| f.action == PackAction::Kept).count();
    assert!(kept > first.len(), "{kept}");
}

/// Writes somebody else's file onto a disk as soon as so many bytes were packed.
struct Filler {
    path: PathBuf,
    left: Mutex<i64>,
}

impl Progress for Filler {
    fn expect_bytes(&self, _: u64) {}
    fn advance_bytes(&self, bytes: u64) {
        let mut left = self.left.lock().unwrap();
        let before = *left;
        *left -= i64::try_from(bytes).unwrap();
        if before > 0 && *left <= 0 {
            // It writes until there is no room any more, and that is its error.
            let _ = fs::write(&self.path, vec![1; 64 << 20]);
        }
    }
    fn skip_bytes(&self, _: u64) {}
    fn finish_item(&self, _: &str) {}
    fn add_note(&self, _: &str) {}
}

#[test]
fn a_disk_that_fills_up_in_the_midst_is_left_and_the_next_goes_on() {
    let world = World::new();
    let plan = world.plan(SMALL);
    // Both have room for all, as far as can be seen before.
    let (disk, large) = (Tmpfs::new(2 * plan.size()), tempfile::tempdir().unwrap());
    let stranger = disk.path().join("someone-elses");
    let filler = Filler { path: stranger.clone(), left: (plan.size().cast_signed() / 2).into() };

    let packed = pack_with(&world, &[disk.path(), large.path()], None, &filler).unwrap();

    let (first, second) = (volumes(disk.path()).len(), volumes(large.path()).len());
    assert!(first > 0 && second > 0, "{first} {second}");
    assert_eq!(first + second, packed.files.len());
    fs::remove_file(stranger).unwrap();
    assert_same_as_in_one_folder(&world, &[disk.path(), large.path()]);
}

/// ext2 has no `fallocate`, as FAT: there a full disk is noticed in the midst of a file only.
#[test]
fn a_disk_without_reserved_space_that_fills_up_is_left_too() {
    let world = World::new();
    let plan = world.plan(SMALL);
    let image = world.folder.path().join("ext2.img");
    let bytes = plan.size() * 2;
    fs::File::create(&image).unwrap().set_len(bytes.next_multiple_of(1 << 20)).unwrap();
    let place = world.folder.path().join("ext2");
    fs::create_dir(&place).unwrap();
    run("mkfs.ext2", &["-q".as_ref(), "-m".as_ref(), "0".as_ref(), image.as_path()]);
    run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_path(), place.as_path()]);
    let mounted = Mounted(place.clone());
    fs::remove_dir(place.join("lost+found")).unwrap();
    let large = tempfile::tempdir().unwrap();
    let stranger = place.join("someone-elses");
    let filler = Filler { path: stranger.clone(), left: (plan.size().cast_signed() / 2).into() };

    let packed = pack_with(&world, &[&place, large.path()], None, &filler).unwrap();

    let (first, second) = (volumes(&place).len(), volumes(large.path()).len());
    assert!(first > 0 && second > 0, "{first} {second}");
    assert_eq!(first + second, packed.files.len());
    fs::remove_file(stranger).unwrap();
    assert_same_as_in_one_folder(&world, &[&place, large.path()]);
    drop(mounted);
}

fn run(program: &str, arguments: &[&Path]) {
    let status = std::process::Command::new(program).args(arguments).output();
    let output = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
