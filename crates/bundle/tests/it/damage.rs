//! Reading damaged bundle files: every changed byte is found, and every kind of wrong file has its
//! own error.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::common::{self, SMALL, World};
use gantry_bundle::{
    Bundle, BundleFile, BundleFileFault, BundleFileSet, BundleFileSize, BundleIndex, Completeness,
    EntryPart, Error, ReadAt, verify_file,
};
use proptest::prelude::*;
use store::progress::SilentProgress;

static PACKED: LazyLock<(World, Vec<PathBuf>)> = LazyLock::new(|| {
    let world = World::new();
    world.pack(SMALL);
    let paths = world.paths();
    (world, paths)
});

#[test]
fn each_volume_is_whole_by_itself() {
    for path in &PACKED.1 {
        let alone = tempfile::tempdir().unwrap();
        let copy = alone.path().join("renamed");
        fs::copy(path, &copy).unwrap();

        let found = verify_file(&copy, &SilentProgress).unwrap();

        assert!(found.is_whole(), "{:?}", found.damages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_changed_byte_is_always_found(volume in 0..PACKED.1.len(), place: prop::sample::Index, bit in 0..8) {
        let mut bytes = fs::read(&PACKED.1[volume]).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        fs::write(&path, bytes).unwrap();

        match verify_file(&path, &SilentProgress) {
            Ok(found) => {
                prop_assert_eq!(found.damages.len(), 1);
                let range = &found.damages[0].range;
                prop_assert!(range.contains(&(at as u64)), "{at} in {range:?}");
            }
            // End record and index are checked first: the rest is checked by them.
            Err(Error::InvalidFile { fault: BundleFileFault::NoEnd | BundleFileFault::EndDamaged | BundleFileFault::IndexDamaged, .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn a_cut_volume_is_told_as_cut(volume in 0..PACKED.1.len(), place: prop::sample::Index) {
        let mut bytes = fs::read(&PACKED.1[volume]).unwrap();
        let expected = bytes.len() as u64;
        let actual = 1600 + place.index(bytes.len() - 1600) as u64;
        bytes.truncate(actual as usize);

        prop_assert_eq!(fault(bytes), BundleFileFault::Cut { actual, expected });
    }

    #[test]
    fn hostile_bytes_never_panic_the_index_parser(bytes: Vec<u8>, header: u64) {
        let mut with_magic = b"gntryidx".to_vec();
        with_magic.extend_from_slice(&bytes);
        let _ = BundleIndex::parse(&bytes, header);
        let _ = BundleIndex::parse(&with_magic, header);
    }

    #[test]
    fn a_changed_index_with_a_right_hash_never_panics(
        volume in 0..PACKED.1.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let bytes = fs::read(&PACKED.1[volume]).unwrap();
        let end = *BundleFile::open(&PACKED.1[volume]).unwrap().end_record();
        let start = end.index_offset as usize;
        let mut index = bytes[start..start + end.index_length as usize].to_vec();
        for (place, byte) in changes {
            let at = place.index(index.len());
            index[at] = byte;
        }
        if let Ok(parsed) = BundleIndex::parse(&index, end.index_offset - 512) {
            prop_assert_eq!(parsed.encode(), index);
        }
    }
}

#[test]
fn every_changed_bit_of_the_end_record_is_found() {
    let whole = fs::read(&PACKED.1[1]).unwrap();
    let start = whole.len() - 1536;
    for bit in 0..512 * 8 {
        let mut bytes = whole.clone();
        bytes[start + bit / 8] ^= 1 << (bit % 8);

        let fault = fault(bytes);

        assert!(
            matches!(fault, BundleFileFault::NoEnd | BundleFileFault::EndDamaged),
            "bit {bit}: {fault}"
        );
    }
}

#[test]
fn damage_is_told_with_the_blob_and_the_root_that_it_hits() {
    let (world, paths) = &*PACKED;
    let folder = tempfile::tempdir().unwrap();
    let volume = BundleFile::open(&paths[4]).unwrap();
    let entry = volume.index().entries.iter().find(|entry| entry.blob_offset > 0).unwrap();
    let path = folder.path().join("volume");
    fs::copy(&paths[4], &path).unwrap();
    common::flip(&path, entry.offset + 100);

    let found = verify_file(&path, &SilentProgress).unwrap();

    let damage = &found.damages[0];
    assert_eq!(damage.part, EntryPart::Data);
    assert_eq!(damage.range, entry.offset..entry.offset + entry.length);
    assert_eq!(damage.blob, Some(entry.blob));
    let root = damage.root.clone().unwrap();
    assert!(world.store.roots().unwrap().iter().any(|known| known.name.to_string() == root));
    assert!(damage.to_string().contains(&root), "{damage}");
}

#[test]
fn every_wrong_file_has_its_own_error() {
    let whole = fs::read(&PACKED.1[1]).unwrap();
    let length = whole.len() as u64;
    let end = *BundleFile::open(&PACKED.1[1]).unwrap().end_record();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fault(bytes)
    };

    assert_eq!(fault(vec![]), BundleFileFault::NotABundleFile);
    assert_eq!(fault(b"a text".to_vec()), BundleFileFault::NotABundleFile);
    assert_eq!(fault(vec![7; 100_000]), BundleFileFault::NotABundleFile);
    let longer = with(&|bytes| bytes.extend_from_slice(&[0; 512]));
    assert_eq!(longer, BundleFileFault::Longer { actual: length + 512, expected: length });
    let tail = whole.len() - 1536;
    assert_eq!(with(&|bytes| bytes[tail..].fill(0)), BundleFileFault::NoEnd);
    assert_eq!(with(&|bytes| bytes[tail + 60] ^= 1), BundleFileFault::EndDamaged);
    assert_eq!(
        with(&|bytes| bytes[end.index_offset as usize + 50] ^= 1),
        BundleFileFault::IndexDamaged
    );
    let newer = with(&|bytes| change_end(bytes, 16, 2));
    assert!(
        matches!(&newer, BundleFileFault::Newer { what } if what == "bundle format 2 (gantry 0.1.0 or later)"),
        "{newer}"
    );
    let dense = with(&|bytes| change_end(bytes, 20, 2));
    assert!(
        matches!(&dense, BundleFileFault::Newer { what } if what.starts_with("bundle feature dense")),
        "{dense}"
    );
    // The feature and the index belong together: a reader without the feature must see it there.
    let other = 4 - whole[tail + 20];
    let differing = with(&|bytes| change_end(bytes, 20, other));
    assert!(
        matches!(&differing, BundleFileFault::IndexWrong { reason } if reason.contains("sha512")),
        "{differing}"
    );
}

/// Writes a field of the end record with the right hash, as another version of Gantry would.
fn change_end(bytes: &mut [u8], at: usize, value: u8) {
    let start = bytes.len() - 1536;
    bytes[start + at] = value;
    let hash = blake3::hash(&bytes[start..start + 128]);
    bytes[start + 128..start + 160].copy_from_slice(hash.as_bytes());
}

fn fault(bytes: Vec<u8>) -> BundleFileFault {
    let data: Arc<dyn ReadAt> = Arc::new(bytes);
    match BundleFile::from_data(Path::new("volume"), &data) {
        Err(Error::InvalidFile { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_volumes_are_named_by_number_and_file() {
    let mut paths = PACKED.1.clone();
    paths.remove(7);
    paths.remove(2);

    let error = Bundle::open(&paths).unwrap_err();

    assert!(matches!(&error, Error::Missing { numbers, .. } if numbers == &[3, 8]));
    let text = error.to_string();
    assert!(text.contains("test-1.0.0003.gantry, test-1.0.0008.gantry"), "{text}");
}

#[test]
fn a_volume_of_another_bundle_and_one_given_twice_are_told() {
    let other = World::new();
    other.pack(BundleFileSize::Unlimited);
    let mut foreign = PACKED.1.clone();
    foreign[3] = other.paths().remove(0);
    let mut twice = PACKED.1.clone();
    twice.push(twice[3].clone());

    assert!(
        matches!(Bundle::open(&foreign), Err(Error::OtherBundle { path, .. }) if path == foreign[3])
    );
    assert!(matches!(Bundle::open(&twice), Err(Error::Duplicate { number: 4, .. })));
    let volumes = foreign.iter().map(|path| BundleFile::open(path).unwrap()).collect();
    let set = BundleFileSet::from_files(volumes).unwrap();
    assert_eq!(set.missing_numbers(), [4]);
    assert_eq!(set.misplaced().len(), 1);
    assert!(matches!(Bundle::open(&[]), Err(Error::NoFiles)));
}

#[test]
fn some_volumes_tell_which_roots_are_complete_in_them() {
    let (world, paths) = &*PACKED;
    let all = Bundle::open_partial(paths).unwrap().check_completeness().unwrap();
    assert!(all.iter().all(|(_, completeness)| *completeness == Completeness::Complete));

    let without_last = Bundle::open_partial(&paths[..paths.len() - 1]).unwrap();
    let only_first = Bundle::open_partial(&paths[..1]).unwrap();
    let without_first = Bundle::open_partial(&paths[1..]);

    assert_eq!(without_last.file_set().missing_numbers(), [paths.len() as u32]);
    let complete = |bundle: &Bundle| {
        let roots = bundle.check_completeness().unwrap();
        assert_eq!(roots.len(), world.store.roots().unwrap().len());
        roots.iter().filter(|(_, found)| *found == Completeness::Complete).count()
    };
    assert!(complete(&without_last) > 0);
    assert!(complete(&only_first) < all.len());
    assert!(matches!(without_first, Err(Error::Missing { numbers, .. }) if numbers == [1]));
}
