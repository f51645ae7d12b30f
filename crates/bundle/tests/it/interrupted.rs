//! A pack that is killed, and one that finds no room: what was finished counts, nothing is corrupt,
//! and the same command goes on.
// Mounts are Linux's here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{SMALL, World, volumes};
use gantry_bundle::{Error, PackAction, Recheck};
use store::progress::{Progress, SilentProgress};

#[test]
fn a_killed_pack_goes_on_where_it_was() {
    let world = World::new();
    let whole = world.folder.path().join("whole");
    assert!(pack_in_process(&world, &whole).wait().unwrap().success());
    let count = volumes(&whole).len();
    for kill_at in [0, 1, 5, 20] {
        let out = world.folder.path().join(format!("out-{kill_at}"));
        let mut process = pack_in_process(&world, &out);
        while finished(&out) < kill_at && process.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let before = finished(&out);
        assert!(before >= kill_at && before <= count);

        assert!(pack_in_process(&world, &out).wait().unwrap().success());

        let left: Vec<PathBuf> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left.len(), count + 1, "bundle files and manifest, nothing else: {left:?}");
        for (now, then) in volumes(&out).iter().zip(volumes(&whole)) {
            assert!(fs::read(now).unwrap() == fs::read(then).unwrap(), "{}", now.display());
        }
    }
}

/// This crate's example packs the store in another process, which can be killed.
fn pack_in_process(world: &World, out: &Path) -> std::process::Child {
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/measure");
    Command::new(example)
        .args([world.store.path(), out])
        .args(["pack", "65536"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the example is built by `cargo test -p gantry-bundle`, or by `--examples`")
}

fn finished(out: &Path) -> usize {
    if out.is_dir() { volumes(out).len() } else { 0 }
}

#[test]
fn a_disk_without_room_is_told_before_the_first_byte() {
    let world = World::new();
    let disk = Tmpfs::mount(&world.folder.path().join("disk"), "1m");

    let result = gantry_bundle::pack_to_folder(
        &world.store,
        &world.plan(SMALL),
        &disk.0,
        Recheck::Index,
        &SilentProgress,
    );

    let Err(Error::NoSpace { needed, free, .. }) = result else { panic!("{result:?}") };
    assert_eq!(needed, world.plan(SMALL).size());
    assert!(free <= 1 << 20);
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
}

#[test]
fn a_disk_that_fills_up_meanwhile_keeps_what_was_finished() {
    let world = World::new();
    let disk = Tmpfs::mount(&world.folder.path().join("disk"), "8m");
    let filler = Filler { path: disk.0.join("someone-elses"), after: 5.into() };
    let plan = world.plan(SMALL);

    let result =
        gantry_bundle::pack_to_folder(&world.store, &plan, &disk.0, Recheck::Index, &filler);

    assert!(matches!(result, Err(Error::NoSpace { .. })), "{result:?}");
    assert_eq!(volumes(&disk.0).len(), 5);
    fs::remove_file(&filler.path).unwrap();
    let packed = gantry_bundle::pack_to_folder(
        &world.store,
        &plan,
        &disk.0,
        Recheck::Index,
        &SilentProgress,
    )
    .unwrap();
    let kept = packed.files.iter().filter(|volume| volume.action == PackAction::Kept).count();
    assert_eq!(kept, 5);
    for path in volumes(&disk.0) {
        assert!(gantry_bundle::verify_file(&path, &SilentProgress).unwrap().is_whole());
    }
}

/// Fills the disk when so many bundle files are done.
struct Filler {
    path: PathBuf,
    after: std::sync::atomic::AtomicUsize,
}

impl Progress for Filler {
    fn expect_bytes(&self, _: u64) {}
    fn advance_bytes(&self, _: u64) {}
    fn skip_bytes(&self, _: u64) {}
    fn add_note(&self, _: &str) {}
    fn finish_item(&self, _: &str) {
        if self.after.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            // It writes until there is no room any more, and that is its error.
            let _ = fs::write(&self.path, vec![1; 64 << 20]);
        }
    }
}

/// A small disk; gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir(path).unwrap();
        let size = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        assert!(mounted.unwrap().success(), "mounting a tmpfs needs root: run the tests as root");
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
