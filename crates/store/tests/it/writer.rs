//! Writers with any sequence of pieces, interruptions and restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{self, bytes, writer};
use gantry_store::hash::sha256;
use gantry_store::{Error, Store, WriteStart, read_blob};
use proptest::prelude::*;

/// What may happen to a blob on its way.
#[derive(Debug, Clone)]
enum Step {
    /// The next bytes come.
    Piece(usize),
    /// The writer is dropped and another one goes on.
    Stop,
    /// The server gives it from the start.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..400_000usize).prop_map(Step::Piece),
        2 => Just(Step::Stop),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_way_to_the_end_gives_the_same_blob(
        length in 0..1_500_000usize,
        steps in prop::collection::vec(step(), 0..24),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let blob = bytes(length as u64, length);
        let digest = sha256(&blob);
        let mut current = writer(&store, &digest, length as u64);
        let mut at = 0;
        for step in steps {
            match step {
                Step::Piece(size) => {
                    let end = length.min(at + size);
                    current.write(&blob[at..end]).unwrap();
                    at = end;
                }
                Step::Stop => {
                    drop(current);
                    current = writer(&store, &digest, length as u64);
                }
                Step::Restart => {
                    current.restart().unwrap();
                    at = 0;
                }
            }
            prop_assert_eq!(current.offset(), at as u64);
        }
        current.write(&blob[at..]).unwrap();
        current.commit().unwrap();
        prop_assert_eq!(read_blob(&store, &digest, length as u64).unwrap(), blob);
    }

    #[test]
    fn one_wrong_byte_anywhere_is_found(
        length in 1..600_000usize,
        place in any::<prop::sample::Index>(),
        stop in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut blob = bytes(7, length);
        let digest = sha256(&blob);
        blob[place.index(length)] ^= 1;
        let (before, after) = blob.split_at(stop.index(length));
        writer(&store, &digest, length as u64).write(before).unwrap();

        let mut second = writer(&store, &digest, length as u64);
        second.write(after).unwrap();
        let refused = matches!(second.commit(), Err(Error::DigestMismatch { .. }));
        prop_assert!(refused);

        prop_assert_eq!(writer(&store, &digest, length as u64).offset(), 0);
    }
}

#[test]
fn bytes_beyond_the_end_are_refused_and_what_was_right_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digest = sha256(b"hello");
    let mut first = writer(&store, &digest, 5);
    first.write(b"hel").unwrap();

    let error = first.write(b"lo, and more").unwrap_err();

    assert!(matches!(error, Error::SizeMismatch { expected: 5, actual: 15, .. }), "{error}");
    first.write(b"lo").unwrap();
    first.commit().unwrap();
}

#[test]
fn a_blob_that_is_cut_short_is_not_committed_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digest = sha256(b"hello");
    let mut first = writer(&store, &digest, 5);
    first.write(b"hel").unwrap();

    assert!(matches!(first.commit(), Err(Error::SizeMismatch { expected: 5, actual: 3, .. })));

    assert_eq!(writer(&store, &digest, 5).offset(), 3);
}

#[test]
fn a_second_writer_waits_for_the_first_and_finds_the_blob() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digest = sha256(b"hello");
    let mut first = writer(&store, &digest, 5);
    assert!(store.try_open_writer(&digest, 5).unwrap().is_none());

    std::thread::scope(|scope| {
        let others: Vec<_> =
            (0..4).map(|_| scope.spawn(|| store.open_writer(&digest, 5).unwrap())).collect();
        first.write(b"hello").unwrap();
        first.commit().unwrap();
        for other in others {
            assert!(matches!(other.join().unwrap(), WriteStart::Present));
        }
    });
}

#[test]
fn many_threads_bring_in_the_same_blob_and_one_of_them_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let blob = bytes(1, 300_000);
    let digest = sha256(&blob);
    let written = std::sync::atomic::AtomicUsize::new(0);

    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if let WriteStart::Writer(mut writer) = store.open_writer(&digest, 300_000).unwrap()
                {
                    written.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    writer.write(&blob[writer.offset() as usize..]).unwrap();
                    writer.commit().unwrap();
                }
            });
        }
    });

    assert_eq!(written.into_inner(), 1);
}

#[test]
fn a_blob_that_a_power_cut_truncated_is_not_there_and_is_brought_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let blob = common::blob(&store, b"hello");
    std::fs::write(store.blob_path(&blob.digest), "hel").unwrap();

    assert!(!store.contains(&blob).unwrap());
    store.put_bytes(b"hello").unwrap();

    assert!(store.contains(&blob).unwrap());
}

#[test]
fn a_file_and_a_stream_get_the_digest_of_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let content = bytes(3, 700_001);
    let file = folder.path().join("model.bin");
    std::fs::write(&file, &content).unwrap();

    let expected = (sha256(&content), 700_001);
    assert_eq!(store.add_reader(content.as_slice()).unwrap(), expected);
    assert_eq!(store.add_file(&file).unwrap(), expected);

    assert_eq!(read_blob(&store, &expected.0, 700_001).unwrap(), content);
    assert_eq!(std::fs::read_dir(store.path().join("gantry/partial")).unwrap().count(), 0);
}
