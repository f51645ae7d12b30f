//! Packing: the same bytes each time, plain tools open them, an interrupted pack goes on, a
//! damaged store is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{self, SMALL, World, volumes};
use gantry_bundle::{BundleFile, BundleFileSize, BundleManifest, Error, PackAction, Recheck};
use store::progress::SilentProgress;
use types::{ByteSize, DigestAlgorithm};

#[test]
fn the_same_store_gives_the_same_bytes() {
    let (one, other) = (World::new(), World::new());
    one.pack(SMALL);
    other.pack(SMALL);

    let names = |world: &World| -> Vec<_> {
        world.paths().iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&one), names(&other));
    for (a, b) in one.paths().iter().zip(other.paths()) {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} differs", a.display());
    }
}

#[test]
fn another_name_version_or_volume_size_is_another_bundle() {
    let world = World::new();
    let ids = [
        world.plan_as("test", "1.0", SMALL).id(),
        world.plan_as("test", "1.1", SMALL).id(),
        world.plan_as("tess", "1.0", SMALL).id(),
        world.plan_as("test", "1.0", BundleFileSize::Unlimited).id(),
    ];

    for (at, id) in ids.iter().enumerate() {
        assert!(!ids[..at].contains(id));
    }
}

#[test]
fn a_plan_tells_the_sizes_that_pack_writes() {
    let world = World::new();
    let plan = world.plan(SMALL);

    let packed = world.pack(SMALL);

    assert_eq!(plan.files().len(), packed.files.len());
    for (planned, packed) in plan.files().iter().zip(&packed.files) {
        assert_eq!(fs::metadata(&packed.path).unwrap().len(), planned.size);
    }
    assert_eq!(plan.size(), packed.files.iter().map(|volume| volume.size).sum::<u64>());
}

#[test]
fn the_manifest_beside_the_volumes_names_all_of_them() {
    let world = World::new();
    let packed = world.pack(SMALL);
    let path = packed.manifest.unwrap();

    let manifest = BundleManifest::read(&path).unwrap();

    assert_eq!(path.file_name().unwrap(), "test-1.0.gantry.json");
    assert_eq!(manifest.file_paths(&path).unwrap(), world.paths());
    for (volume, path) in manifest.volumes.iter().zip(world.paths()) {
        let opened = BundleFile::open(&path).unwrap();
        assert_eq!(volume.size, opened.end_record().length);
        let hash = opened.end_record().index_hash.to_hex().to_string();
        assert_eq!(volume.index.as_ref(), Some(&hash));
    }
    let bundle = gantry_bundle::Bundle::open(&world.paths()).unwrap();
    let mut carried = bundle.read_manifest().unwrap().unwrap();
    assert_eq!(carried.volumes.last_mut().unwrap().index.take(), None);
    let mut beside = manifest;
    beside.volumes.last_mut().unwrap().index = None;
    assert_eq!(carried, beside);
}

#[test]
fn tar_opens_all_volumes_into_a_layout_that_skopeo_reads() {
    let world = World::new();
    let layout = world.folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    world.pack(SMALL);

    for path in world.paths() {
        let output = Command::new("tar").arg("xf").arg(&path).arg("-C").arg(&layout).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "tar prints no warning");
    }
    check_extracted(&world, &layout);
    let reference = format!("oci:{}:docker.io/library/image:1.0", layout.display());
    let output = Command::new("skopeo").args(["inspect", "--raw", &reference]).output();
    let output = output.expect("skopeo is missing: run dev/setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = &world.store.roots().unwrap()[0];
    assert_eq!(store::hash::sha256(&output.stdout), root.descriptor.digest);
}

#[test]
fn other_tar_programs_read_the_long_names_of_sha512_as_well() {
    let world = World::new();
    world.pack(SMALL);
    let python =
        "import sys, tarfile\ntarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='data')";
    for program in [
        vec!["bsdtar", "xf", "BUNDLE", "-C", "LAYOUT"],
        vec!["busybox", "tar", "xf", "BUNDLE", "-C", "LAYOUT"],
        vec!["python3", "-c", python, "BUNDLE", "LAYOUT"],
    ] {
        let layout = tempfile::tempdir().unwrap();
        for path in world.paths() {
            let argument = |word: &&str| match *word {
                "BUNDLE" => path.clone().into_os_string(),
                "LAYOUT" => layout.path().as_os_str().to_owned(),
                other => other.into(),
            };
            let output = Command::new(program[0]).args(program[1..].iter().map(argument)).output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}", program[0]));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        check_extracted(&world, layout.path());
    }
}

/// Joins the pieces of what was extracted, and checks that every blob of the store is there.
fn check_extracted(world: &World, layout: &Path) {
    for algorithm in DigestAlgorithm::ALL {
        join_pieces(&layout.join(algorithm.layout_folder()));
    }
    for (digest, size) in world.store.list_blobs().unwrap() {
        let bytes = fs::read(layout.join(digest.layout_path())).unwrap();
        assert!(store::hash::has_digest(&bytes, &digest), "{digest}");
        assert_eq!(bytes.len() as u64, size);
    }
}

/// As a person would: `cat <hex>.* > <hex>`.
fn join_pieces(folder: &Path) {
    let script = r#"cd "$1" && for first in *.00000000000000000000; do hex=${first%%.*}; cat "$hex".* > "$hex" && rm "$hex".*; done"#;
    let status = Command::new("sh").args(["-euc", script, "sh"]).arg(folder).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_stream_has_the_bytes_of_the_one_volume() {
    let world = World::new();
    world.pack(BundleFileSize::Unlimited);
    let mut streamed = Vec::new();

    let plan = world.plan(BundleFileSize::Unlimited);
    gantry_bundle::pack_to_stream(&world.store, &plan, &mut streamed, &SilentProgress).unwrap();

    assert!(streamed == fs::read(&world.paths()[0]).unwrap());
    let many = world.plan(SMALL);
    let refused =
        gantry_bundle::pack_to_stream(&world.store, &many, &mut streamed, &SilentProgress);
    assert!(matches!(refused, Err(Error::NotOneFile { .. })));
}

#[test]
fn a_second_pack_keeps_every_volume() {
    let world = World::new();
    world.pack(SMALL);
    let before = inodes(&world.out());

    let again = world.pack(SMALL);

    assert!(again.files.iter().all(|volume| volume.action == PackAction::Kept));
    assert_eq!(inodes(&world.out()), before);
}

#[test]
fn what_an_interrupted_pack_left_is_kept_and_the_rest_written_again() {
    let world = World::new();
    world.pack(SMALL);
    let whole: Vec<_> = world.paths().iter().map(|path| fs::read(path).unwrap()).collect();
    for stop in [0, 1, 7, whole.len() - 1] {
        // As a kill leaves it: some finished bundle files, one under its temporary name, no
        // manifest.
        for path in &world.paths()[stop..] {
            fs::remove_file(path).unwrap();
        }
        let _ = fs::remove_file(world.out().join("test-1.0.gantry.json"));
        let part = world.out().join(format!(".test-1.0.{:04}.gantry.part", stop + 1));
        fs::write(&part, b"half").unwrap();

        let packed = world.pack(SMALL);

        let kept = packed.files.iter().filter(|volume| volume.action == PackAction::Kept).count();
        assert_eq!(kept, stop);
        assert!(!part.exists());
        let now: Vec<_> = world.paths().iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(now == whole);
        assert!(world.out().join("test-1.0.gantry.json").exists());
    }
}

#[test]
fn a_lost_volume_is_written_again_with_what_goes_on_behind_it() {
    let world = World::new();
    world.pack(SMALL);
    let whole: Vec<_> = world.paths().iter().map(|path| fs::read(path).unwrap()).collect();
    let lost = world.paths().swap_remove(5);
    fs::remove_file(&lost).unwrap();

    let packed = world.pack(SMALL);

    assert_eq!(packed.files[4].action, PackAction::Kept);
    assert_eq!(packed.files[5].action, PackAction::Written);
    let now: Vec<_> = world.paths().iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(now == whole);
}

#[test]
fn a_full_recheck_writes_a_damaged_volume_again() {
    let world = World::new();
    world.pack(SMALL);
    let damaged = &world.paths()[3];
    let before = fs::read(damaged).unwrap();
    common::flip(damaged, before.len() as u64 / 2);

    let plan = world.plan(SMALL);
    gantry_bundle::pack_to_folder(
        &world.store,
        &plan,
        &world.out(),
        Recheck::Everything,
        &SilentProgress,
    )
    .unwrap();

    assert!(fs::read(damaged).unwrap() == before);
}

#[test]
fn volumes_of_an_earlier_plan_are_replaced_and_removed() {
    let world = World::new();
    world.pack(SMALL);
    let stranger = world.out().join("test-2.0.0001.gantry");
    fs::copy(&world.paths()[0], &stranger).unwrap();

    let packed = world.pack(BundleFileSize::Below(ByteSize(1 << 20)));

    assert!(packed.files.iter().all(|volume| volume.action == PackAction::Written));
    assert_eq!(world.paths().len(), packed.files.len() + 1, "the other version stays");
    assert!(stranger.exists());
}

#[test]
fn a_link_under_the_name_of_an_unfinished_file_is_not_written_through() {
    let world = World::new();
    world.pack(SMALL);
    let secret = world.out().join("secret");
    fs::write(&secret, "kept").unwrap();
    for path in world.paths() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        std::os::unix::fs::symlink(&secret, path.with_file_name(format!(".{name}.part"))).unwrap();
        fs::remove_file(path).unwrap();
    }

    world.pack(SMALL);

    assert_eq!(fs::read_to_string(&secret).unwrap(), "kept");
}

#[test]
fn a_damaged_blob_of_the_store_is_named_and_no_volume_with_its_end_is_finished() {
    let world = World::new();
    let (large, size) =
        world.store.list_blobs().unwrap().into_iter().max_by_key(|(_, size)| *size).unwrap();
    let path = world.store.blob_path(&large);
    let bytes = fs::read(&path).unwrap();
    make_writable(&path);
    common::flip(&path, size - 1);

    let plan = world.plan(SMALL);
    let result = gantry_bundle::pack_to_folder(
        &world.store,
        &plan,
        &world.out(),
        Recheck::Index,
        &SilentProgress,
    );

    assert!(matches!(result, Err(Error::BlobDamaged { digest, .. }) if digest == large));
    let finished = volumes(&world.out()).len();
    assert!(finished < plan.files().len());

    // The damage is at the blob's begin, in a finished bundle file; the blob is then fetched again.
    fs::write(&path, &bytes).unwrap();
    common::flip(&path, 0);
    let result = gantry_bundle::pack_to_folder(
        &world.store,
        &plan,
        &world.out(),
        Recheck::Index,
        &SilentProgress,
    );
    assert!(matches!(result, Err(Error::BlobDamaged { .. })));
    fs::write(&path, &bytes).unwrap();

    world.pack(SMALL);

    for path in world.paths() {
        let found = gantry_bundle::verify_file(&path, &SilentProgress).unwrap();
        assert!(found.is_whole(), "{:?}", found.damages);
    }
    let bundle = gantry_bundle::Bundle::open(&world.paths()).unwrap();
    let packed = store::read_blob(&bundle, &large, size).unwrap();
    assert!(packed == bytes);
}

#[test]
fn a_volume_size_that_is_too_small_is_refused_with_one_that_is_not() {
    let world = World::new();
    let contents = gantry_bundle::BundleContents {
        roots: world.store.roots().unwrap(),
        lock: vec![b'#'; 100 << 10],
    };
    let naming = gantry_bundle::BundleName::new("test", "1").unwrap();
    let plan = |size| {
        let size = BundleFileSize::Below(ByteSize(size));
        gantry_bundle::plan_files(&world.store, contents.clone(), naming.clone(), size)
    };

    assert!(matches!(plan(1000), Err(Error::FileTooSmall { .. })));
    let Err(Error::FileTooSmall { needed, .. }) = plan(100 << 10) else { panic!() };
    plan(needed).unwrap();
}

#[test]
fn a_name_that_is_no_file_name_is_refused() {
    for wrong in ["", "a/b", "..", ".a", "-a", "a b", "ä", &"a".repeat(101)] {
        assert!(gantry_bundle::BundleName::new(wrong, "1").is_err(), "{wrong}");
        assert!(gantry_bundle::BundleName::new("a", wrong).is_err(), "{wrong}");
    }
}

#[cfg(unix)]
fn inodes(folder: &Path) -> BTreeMap<std::ffi::OsString, u64> {
    use std::os::unix::fs::MetadataExt;
    let volumes = volumes(folder);
    let inode = |path: &std::path::PathBuf| fs::metadata(path).unwrap().ino();
    volumes.iter().map(|path| (path.file_name().unwrap().to_owned(), inode(path))).collect()
}

#[allow(clippy::permissions_set_readonly_false, reason = "the file is this test's own")]
fn make_writable(path: &Path) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
}
