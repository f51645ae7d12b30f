//! A full disk: a small tmpfs. Needs the right to mount (root, as CI has it).
// Mounts are Linux's here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{bytes, image, writer};
use gantry_store::hash::sha256;
use gantry_store::progress::SilentProgress;
use gantry_store::{DamagePolicy, Error, Store, read_blob};

const MIB: usize = 1 << 20;

/// A tmpfs of 4 MiB; unmounted when dropped.
struct SmallDisk(PathBuf, #[expect(dead_code, reason = "removes the folder")] tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "a tmpfs must be mounted: run the tests as root");
        Self(path, folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The test has its result already; what stays mounted goes with the machine.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_byte() {
    let disk = SmallDisk::mount();
    let store = Store::open(disk.path().join("store")).unwrap();

    let error = store.open_writer(&sha256(b"any"), 5 * MIB as u64).unwrap_err();

    let Error::NoSpace { needed, free, .. } = error else { panic!("{error}") };
    assert_eq!(needed, 5 * MIB as u64);
    assert!(free < 4 * MIB as u64);
    assert!(store.ensure_free_space(MIB as u64).is_ok());
    assert!(matches!(store.ensure_free_space(u64::MAX), Err(Error::NoSpace { .. })));
}

#[test]
fn a_disk_that_fills_up_while_bytes_stream_keeps_them_and_goes_on_after_room_was_made() {
    let disk = SmallDisk::mount();
    let store = Store::open(disk.path().join("store")).unwrap();
    let before = image(&store, "a/before:1", &[&bytes(1, 1000)]);
    store.publish_roots(std::slice::from_ref(&before)).unwrap();
    let blob = bytes(2, 3 * MIB);
    let digest = sha256(&blob);
    let mut first = writer(&store, &digest, blob.len() as u64);
    // Somebody else takes the room that was there when the writer began.
    let hog = disk.path().join("hog");
    std::fs::write(&hog, bytes(3, 2 * MIB)).unwrap();

    let error = blob.chunks(64 << 10).find_map(|piece| first.write(piece).err()).unwrap();

    assert!(matches!(error, Error::NoSpace { needed, .. } if needed > 0), "{error}");
    assert!(
        error.to_string().contains("free some space and run the same command again"),
        "{error}"
    );
    assert!(first.write(b"more").is_err(), "a writer that failed takes nothing more");
    drop(first);
    let refused = store.unpublish_roots(std::slice::from_ref(&before.name));
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "there is no room for a new index");
    assert_eq!(store.roots().unwrap(), std::slice::from_ref(&before));
    assert!(store.put_bytes(&bytes(4, 100_000)).is_err());
    let found =
        store.verify(DamagePolicy::Keep, std::num::NonZeroUsize::MIN, &SilentProgress).unwrap();
    assert!(found.is_intact(), "{found:?}");

    std::fs::remove_file(&hog).unwrap();
    let mut second = writer(&store, &digest, blob.len() as u64);
    let offset = second.offset() as usize;
    assert!(offset > MIB, "what was written is kept, not only {offset} bytes");
    second.write(&blob[offset..]).unwrap();
    second.commit().unwrap();
    assert!(store.holds(&digest, &blob));
}

#[test]
fn files_and_streams_that_do_not_fit_leave_nothing_behind() {
    let disk = SmallDisk::mount();
    let store = Store::open(disk.path().join("store")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes(5, 5 * MIB)).unwrap();
    let free = store.free_space().unwrap();

    assert!(matches!(store.add_file(file.path()), Err(Error::NoSpace { .. })));
    let stream = std::fs::File::open(file.path()).unwrap();
    assert!(matches!(store.add_reader(stream), Err(Error::NoSpace { .. })));

    assert_eq!(store.free_space().unwrap(), free);
}

trait Holds {
    fn holds(&self, digest: &types::Digest, bytes: &[u8]) -> bool;
}

impl Holds for Store {
    fn holds(&self, digest: &types::Digest, bytes: &[u8]) -> bool {
        read_blob(self, digest, bytes.len() as u64).unwrap() == bytes
    }
}
