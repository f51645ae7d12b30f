//! Verification finds damage; garbage collection removes what no root needs and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::common::{blob, bytes, image, writer};
use gantry_store::hash::{compute_digest, sha256};
use gantry_store::progress::{Progress, SilentProgress};
use gantry_store::{BlobFault, DEFAULT_GARBAGE_AGE, DamagePolicy, Error, GarbageMode, Store};
use types::DigestAlgorithm;

const THREADS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

#[test]
fn verify_hashes_each_blob_once_and_tells_its_progress() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for n in 0..20 {
        blob(&store, &bytes(n, 100_000 * n as usize));
    }
    let counted = Counted::default();

    let found = store.verify(DamagePolicy::Keep, THREADS, &counted).unwrap();

    let total: u64 = (0..20).map(|n| 100_000 * n).sum();
    assert!(found.is_intact());
    assert_eq!((found.blobs, found.bytes), (20, total));
    assert_eq!(counted.expected.into_inner(), total);
    assert_eq!(counted.advanced.into_inner(), total);
}

#[test]
fn a_flipped_bit_is_found_named_and_mended_by_bringing_the_blob_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let layer = bytes(1, 100_000);
    let whole = image(&store, "ghcr.io/a/whole:1", &[b"other"]);
    let root = image(&store, "ghcr.io/a/damaged:1", &[&layer]);
    store.publish_roots(&[whole, root.clone()]).unwrap();
    let digest = sha256(&layer);
    let mut flipped = layer.clone();
    flipped[77_777] ^= 4;
    fs::write(store.blob_path(&digest), &flipped).unwrap();

    let found = store.verify(DamagePolicy::Remove, THREADS, &SilentProgress).unwrap();

    assert!(!found.is_intact());
    let [damaged] = found.damaged.as_slice() else { panic!("{found:?}") };
    assert_eq!(damaged.digest, digest);
    assert_eq!(damaged.needed_by, [root.name]);
    assert!(matches!(damaged.fault, BlobFault::Content(actual) if actual == sha256(&flipped)));
    store.put_bytes(&layer).unwrap();
    assert!(store.verify(DamagePolicy::Keep, THREADS, &SilentProgress).unwrap().is_intact());
}

#[test]
fn a_blob_that_is_gone_is_told_with_the_root_that_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let root = image(&store, "ghcr.io/a/b:1", &[b"layer"]);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    fs::remove_file(store.blob_path(&sha256(b"layer"))).unwrap();

    let found = store.verify(DamagePolicy::Keep, THREADS, &SilentProgress).unwrap();

    let [broken] = found.broken.as_slice() else { panic!("{found:?}") };
    assert_eq!(broken.name, root.name);
    assert!(
        matches!(broken.problems.as_slice(), [Error::BlobMissing { digest }] if *digest == sha256(b"layer"))
    );
}

#[test]
fn garbage_goes_and_shared_layers_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let stays = image(&store, "ghcr.io/a/stays:1", &[b"shared", b"own"]);
    let goes = image(&store, "ghcr.io/a/goes:1", &[b"shared", b"garbage"]);
    store.publish_roots(&[stays, goes.clone()]).unwrap();
    store.unpublish_roots(&[goes.name]).unwrap();
    let mut garbage = [sha256(b"garbage"), goes.descriptor.digest];
    garbage.sort_unstable();

    let planned =
        store.collect_garbage(GarbageMode::DryRun, Duration::ZERO, &SilentProgress).unwrap();
    assert!(store.blob_path(&garbage[0]).exists());
    let collected =
        store.collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress).unwrap();

    assert_eq!(planned, collected);
    assert_eq!(collected.blobs.iter().map(|(digest, _)| *digest).collect::<Vec<_>>(), garbage);
    assert_eq!(collected.freed_bytes(), 7 + goes.descriptor.size);
    assert!(store.verify(DamagePolicy::Keep, THREADS, &SilentProgress).unwrap().is_intact());
    assert_eq!(store.list_blobs().unwrap().len(), 4);
}

#[test]
fn fresh_partials_stay_for_the_next_fetch_and_stale_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (fresh, stale) = (sha256(b"fresh"), sha256(b"stale"));
    writer(&store, &fresh, 5).write(b"fre").unwrap();
    writer(&store, &stale, 5).write(b"stal").unwrap();
    let partials = store.path().join("gantry/partial");
    set_age(&partials.join(stale.hex()), Duration::from_hours(15 * 24));
    // What a process that was killed while it added a file leaves behind.
    fs::write(partials.join("tmp-x1y2z3"), "12").unwrap();

    let collected =
        store.collect_garbage(GarbageMode::Remove, DEFAULT_GARBAGE_AGE, &SilentProgress).unwrap();

    assert_eq!((collected.partials, collected.partial_bytes), (2, 6));
    assert_eq!((collected.recent_partials, collected.recent_partial_bytes), (1, 3));
    assert_eq!(writer(&store, &fresh, 5).offset(), 3);
    assert_eq!(writer(&store, &stale, 5).offset(), 0);
}

#[test]
fn what_nothing_needs_has_an_age_before_it_is_collected() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let [young, old, again] = [b"young", b"older", b"again"].map(|text| blob(&store, text).digest);
    for digest in [&old, &again] {
        set_age(&store.blob_path(digest), Duration::from_hours(15 * 24));
    }
    // Brought once more today, so it is as good as new.
    store.put_bytes(b"again").unwrap();

    let planned =
        store.collect_garbage(GarbageMode::DryRun, DEFAULT_GARBAGE_AGE, &SilentProgress).unwrap();
    let collected =
        store.collect_garbage(GarbageMode::Remove, DEFAULT_GARBAGE_AGE, &SilentProgress).unwrap();

    assert_eq!(planned, collected);
    assert_eq!(collected.blobs, [(old, 5)]);
    assert_eq!((collected.recent_blobs, collected.recent_bytes()), (2, 10));
    assert!(store.blob_path(&young).exists() && store.blob_path(&again).exists());
    let rest = store.collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress).unwrap();
    assert_eq!((rest.blobs.len(), rest.recent_blobs), (2, 0));
}

#[test]
fn nothing_is_collected_while_nobody_knows_what_a_root_needs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let root = image(&store, "ghcr.io/a/b:1", &[b"layer"]);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    fs::remove_file(store.blob_path(&root.descriptor.digest)).unwrap();

    let error = store
        .collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress)
        .unwrap_err()
        .to_string();

    assert!(error.contains("gantry store rm ghcr.io/a/b:1"), "{error}");
    assert!(store.blob_path(&sha256(b"layer")).exists());
    store.unpublish_roots(&[root.name]).unwrap();
    assert_eq!(
        store
            .collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress)
            .unwrap()
            .blobs
            .len(),
        2
    );
}

#[test]
fn garbage_collection_waits_for_the_sessions_of_others_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let other = Store::open_existing(folder.path()).unwrap();
    let session = other.open_session().unwrap();
    let not_published_yet = other.put_bytes(b"not published yet").unwrap();
    let counted = Counted::default();

    std::thread::scope(|scope| {
        let gc = scope.spawn(|| {
            store.collect_garbage(GarbageMode::Remove, Duration::ZERO, &counted).unwrap()
        });
        while counted.notes.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert!(other.blob_path(&not_published_yet).exists());
        drop(session);
        // What it wrote is safe as long as the other has its store open, whatever it does in between.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!gc.is_finished() && other.blob_path(&not_published_yet).exists());
        drop(other);
        assert_eq!(gc.join().unwrap().blobs.len(), 1);
    });

    let _session = store.open_session().unwrap();
    assert!(matches!(
        store.collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress),
        Err(Error::InUse { .. })
    ));
}

fn set_age(file: &std::path::Path, age: Duration) {
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

/// Adds up the progress that is reported.
#[derive(Default)]
struct Counted {
    expected: AtomicU64,
    advanced: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl Progress for Counted {
    fn expect_bytes(&self, bytes: u64) {
        self.expected.fetch_add(bytes, Ordering::Relaxed);
    }
    fn advance_bytes(&self, bytes: u64) {
        self.advanced.fetch_add(bytes, Ordering::Relaxed);
    }
    fn skip_bytes(&self, _: u64) {}
    fn finish_item(&self, _: &str) {}
    fn add_note(&self, message: &str) {
        self.notes.lock().unwrap().push(message.to_owned());
    }
}

#[test]
fn blobs_of_a_sha512_are_resumed_verified_and_collected_as_those_of_a_sha256_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(!folder.path().join("blobs/sha512").exists(), "only where it is needed");
    let content = bytes(3, 100_000);
    let size = content.len() as u64;
    let digest = compute_digest(DigestAlgorithm::Sha512, &content);
    let mut first = writer(&store, &digest, size);
    first.write(&content[..60_000]).unwrap();
    drop(first);
    assert_eq!(store.partial_size(&digest).unwrap(), 60_000);
    let mut rest = writer(&store, &digest, size);
    assert_eq!(rest.offset(), 60_000);
    rest.write(&content[60_000..]).unwrap();
    rest.commit().unwrap();
    assert_eq!(store.list_blobs().unwrap(), [(digest, size)]);
    assert!(folder.path().join(digest.layout_path()).exists());

    let other = compute_digest(DigestAlgorithm::Sha512, b"other");
    let refused = store.put_document(&other, b"wrong");
    assert!(matches!(refused, Err(Error::DigestMismatch { digest, .. }) if digest == other));
    assert_eq!(store.partial_size(&other).unwrap(), 0, "nothing to go on with");

    let mut flipped = content.clone();
    flipped[77] ^= 4;
    fs::write(store.blob_path(&digest), &flipped).unwrap();
    let found = store.verify(DamagePolicy::Remove, THREADS, &SilentProgress).unwrap();
    let [damaged] = found.damaged.as_slice() else { panic!("{found:?}") };
    let actual = compute_digest(DigestAlgorithm::Sha512, &flipped);
    assert_eq!(damaged.digest, digest);
    assert!(matches!(damaged.fault, BlobFault::Content(found) if found == actual));

    store.put_document(&digest, &content).unwrap();
    let mut partial = writer(&store, &other, 5);
    partial.write(b"ot").unwrap();
    drop(partial);
    let collected =
        store.collect_garbage(GarbageMode::Remove, Duration::ZERO, &SilentProgress).unwrap();
    assert_eq!(collected.blobs, [(digest, size)]);
    assert_eq!((collected.partials, collected.partial_bytes), (1, 2));
}
