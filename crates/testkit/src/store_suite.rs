//! One test suite for all implementations of [`Source`] and [`Sink`]. A new implementation is done
//! when it passes.
//!
//! A test fills a store with [`fill_with_sample`], makes its source from it (a bundle packs it and
//! opens the bundle files) and calls [`check_source`]; or it passes an empty sink to [`check_sink`].
//! Both panic, as tests do, at the first guarantee that is broken.
use std::io::Read as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use types::{Descriptor, Digest, DigestAlgorithm, Manifest, Root, RootKind, media_type};

use store::hash::{compute_digest, has_digest, sha256};
use store::{
    Error, PutResult, Result, RootClosure, Sink, Source, SourceReader, Store, TransferCallback,
    find_closure, read_blob,
};

/// The length of the sample's largest blob: several times every buffer, and a multiple of none.
const LARGE: usize = (3 << 20) + 7;
/// Files of the sample's model.
const FILES: usize = 40;

/// Fills a store with one root of each shape: an image with an empty and a large layer, an index
/// of two platforms, a model of many small files, an attached manifest, a file, and an index whose
/// content is named by sha512, but for one layer. Two of them share the large layer. Returns them
/// sorted by name.
pub fn fill_with_sample(store: &Store) -> Vec<Root> {
    let _session = store.open_session().unwrap();
    let large = sample_bytes(1, LARGE);
    let image = add_manifest(store, &[large.as_slice(), b""]);
    let index = add_index(
        store,
        &[
            &add_manifest(store, &[b"a layer", large.as_slice()]),
            &add_manifest(store, &[b"a layer of another platform"]),
        ],
    );
    let files: Vec<Vec<u8>> = (0..FILES).map(|n| sample_bytes(100 + n as u64, n * 37)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let attached = format!("docker.io/library/image:sha256-{}.sig", image.digest.hex());
    let model = format!("huggingface.co/org/model:{}", "9".repeat(40));
    let mut roots = vec![
        make_root("docker.io/library/image:1.0", RootKind::Image, &image),
        make_root("quay.io/many/platforms:2", RootKind::Image, &index),
        make_root(&model, RootKind::Model, &add_manifest(store, &files)),
        make_root(&attached, RootKind::Attached, &add_manifest(store, &[b"a signature"])),
        make_root(
            "files.gantry/runbook:0123456789ab",
            RootKind::File,
            &add_manifest(store, &[b"a runbook"]),
        ),
        make_root(LONG_DIGESTS, RootKind::Image, &add_index_of_long_digests(store)),
    ];
    roots.sort_by(|a, b| a.name.cmp(&b.name));
    store.publish_roots(&roots).unwrap();
    roots
}

/// The root of [`fill_with_sample`] whose content is named by sha512.
pub const LONG_DIGESTS: &str = "quay.io/long/digests:1";

/// Adds the root of [`fill_with_sample`] whose content is named by sha512, and nothing else.
pub fn add_long_digest_sample(store: &Store) -> Root {
    let _session = store.open_session().unwrap();
    let root = make_root(LONG_DIGESTS, RootKind::Image, &add_index_of_long_digests(store));
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    root
}

/// Adds an index of two platforms. All is named by sha512, but for one layer and one config.
fn add_index_of_long_digests(store: &Store) -> Descriptor {
    use DigestAlgorithm::{Sha256, Sha512};
    let large = sample_bytes(2, LARGE / 2);
    let config: &[u8] = b"{\"architecture\":\"amd64\",\"os\":\"linux\"}";
    let other: &[u8] = b"{\"architecture\":\"arm64\",\"os\":\"linux\"}";
    let manifests = [
        (Sha512, config, vec![(Sha512, large.as_slice()), (Sha256, b"a short digest")]),
        (Sha256, other, vec![(Sha512, b"a long digest")]),
    ];
    let manifests = manifests.map(|(algorithm, config, layers)| {
        let platform: serde_json::Value = serde_json::from_slice(config).unwrap();
        let layers = layers.into_iter().map(|(algorithm, bytes)| {
            add_named(store, media_type::OCI_LAYER_TAR, algorithm, bytes)
        });
        let layers: Vec<Descriptor> = layers.collect();
        let config = add_named(store, media_type::OCI_CONFIG, algorithm, config);
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config, "layers": layers,
        });
        let bytes = document.to_string();
        let manifest = add_named(store, media_type::OCI_MANIFEST, Sha512, bytes.as_bytes());
        let mut descriptor = serde_json::to_value(manifest).unwrap();
        descriptor["platform"] = platform;
        descriptor
    });
    let document = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
    });
    add_named(store, media_type::OCI_INDEX, Sha512, document.to_string().as_bytes())
}

/// Adds content under its digest of an algorithm.
pub fn add_named(
    store: &Store,
    media_type: &str,
    algorithm: DigestAlgorithm,
    bytes: &[u8],
) -> Descriptor {
    let digest = compute_digest(algorithm, bytes);
    store.put_document(&digest, bytes).unwrap();
    Descriptor::new(media_type, digest, bytes.len() as u64)
}

/// Adds an index of which one platform is here and one is missing. Not part of [`fill_with_sample`],
/// because some registries refuse it.
pub fn add_sparse_sample(store: &Store) -> Root {
    let _session = store.open_session().unwrap();
    let absent = Descriptor::new(media_type::OCI_MANIFEST, sha256(b"not here"), 8);
    let index = add_index(store, &[&add_manifest(store, &[b"the one platform"]), &absent]);
    let root = make_root("quay.io/one/platform:3", RootKind::Image, &index);
    store.publish_roots(std::slice::from_ref(&root)).unwrap();
    root
}

/// Checks a source that holds exactly what [`fill_with_sample`] and [`add_sparse_sample`] put into
/// `expected`.
pub fn check_source(source: &dyn Source, expected: &Store) {
    check_roots(source, expected);
    check_absence(source);
    for root in expected.roots().unwrap() {
        let closure = find_closure(source, &root).unwrap();
        assert_eq!(closure, self::find_closure(expected, &root).unwrap());
        for descriptor in closure.descriptors() {
            check_blob(source, expected, descriptor);
        }
    }
    check_many_threads(source, expected);
}

fn check_roots(source: &dyn Source, expected: &Store) {
    let roots = source.roots().unwrap();
    assert!(roots.is_sorted_by(|a, b| a.name < b.name), "roots are sorted by name");
    assert_eq!(roots, expected.roots().unwrap());
}

fn check_absence(source: &dyn Source) {
    let absent = sha256(b"nobody has this");
    assert_eq!(source.blob_size(&absent).unwrap(), None);
    assert!(
        matches!(source.open_blob(&absent, 0..0), Err(Error::BlobMissing { digest }) if digest == absent)
    );
    assert!(matches!(source.open_blob(&absent, 0..9), Err(Error::BlobMissing { .. })));
    assert!(matches!(read_blob(source, &absent, 9), Err(Error::BlobMissing { .. })));
}

fn check_blob(source: &dyn Source, expected: &Store, blob: &Descriptor) {
    let (digest, size) = (&blob.digest, blob.size);
    assert_eq!(source.blob_size(digest).unwrap(), Some(size), "{digest}");
    let whole = read_blob(expected, digest, size).unwrap();
    // The whole, nothing at either end, and parts that begin or end within a buffer.
    let ranges = [
        0..size,
        0..0,
        size..size,
        size / 2..size,
        0..size / 3,
        size / 3..size / 2,
        size.saturating_sub(1)..size,
    ];
    for range in ranges {
        let mut read = Vec::new();
        let mut reader = source.open_blob(digest, range.clone()).unwrap();
        assert_eq!(reader.remaining(), range.end - range.start);
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, whole[range.start as usize..range.end as usize], "{digest} {range:?}");
        assert_eq!(reader.remaining(), 0);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "such a range must be refused")]
    for wrong in [0..size + 1, size + 1..size + 2, 1..0, 0..u64::MAX] {
        let result = source.open_blob(digest, wrong.clone());
        assert!(matches!(result, Err(Error::Range { .. })), "{digest} {wrong:?}");
    }
    if size > 0 {
        let refused = read_blob(source, digest, size - 1);
        assert!(matches!(refused, Err(Error::TooLarge { .. })));
    }
}

fn check_many_threads(source: &dyn Source, expected: &Store) {
    std::thread::scope(|scope| {
        // A source must not share one file position between its readers.
        for _ in 0..8 {
            scope.spawn(|| {
                for (digest, size) in expected.list_blobs().unwrap() {
                    assert!(has_digest(&read_blob(source, &digest, size).unwrap(), &digest));
                }
            });
        }
    });
}

/// Checks an empty sink; afterwards it holds exactly the roots of `from`, which [`fill_with_sample`]
/// filled.
pub async fn check_sink<S: Sink>(sink: &S, from: &Store) {
    let source: Arc<dyn Source> = Arc::new(from.clone());
    for root in from.roots().unwrap() {
        let needs = find_closure(from, &root).unwrap();
        assert!(!sink.holds_root(&root, &needs).await.unwrap(), "{} is not there yet", root.name);
        check_wrong_bytes(sink, &root, &needs, from).await;
        check_blobs(sink, &root, &needs, &source).await;
        check_manifests(sink, &root, &needs, from).await;
        assert!(!sink.holds_root(&root, &needs).await.unwrap(), "{} has no name yet", root.name);
        let bytes = read_blob(from, &root.descriptor.digest, Manifest::MAX_SIZE).unwrap();
        sink.publish_root(&root, bytes.clone()).await.unwrap();
        sink.flush_names().await.unwrap();
        assert!(sink.holds_root(&root, &needs).await.unwrap(), "{} is there", root.name);
        // Again: publishing what is there must change nothing.
        sink.publish_root(&root, bytes).await.unwrap();
        sink.flush_names().await.unwrap();
        assert!(sink.holds_root(&root, &needs).await.unwrap(), "{} is still there", root.name);
    }
}

/// Wrong bytes under a right digest must not get into the sink.
async fn check_wrong_bytes<S: Sink>(sink: &S, root: &Root, needs: &RootClosure, from: &Store) {
    let liar: Arc<dyn Source> = Arc::new(WrongBytesSource(from.clone()));
    for manifest in &needs.manifests {
        let mut wrong = read_blob(from, &manifest.digest, Manifest::MAX_SIZE).unwrap();
        wrong.push(b' ');
        assert!(sink.put_manifest(root, manifest, wrong).await.is_err());
    }
    for blob in needs.blobs.iter().filter(|blob| blob.size > 0) {
        let put = sink.put_blob(root, blob, Arc::clone(&liar), Arc::new(|_| {})).await;
        // What another root needed as well is there, and not read again.
        assert!(matches!(put, Err(_) | Ok(PutResult::Present)), "{} was not verified", blob.digest);
    }
}

/// Puts all blobs concurrently, then again, and checks that the transferred bytes are reported.
async fn check_blobs<S: Sink>(
    sink: &S,
    root: &Root,
    needs: &RootClosure,
    source: &Arc<dyn Source>,
) {
    let puts = needs.blobs.iter().map(|blob| async move {
        let told = Arc::new(AtomicU64::new(0));
        let moved: TransferCallback = {
            let told = Arc::clone(&told);
            Arc::new(move |bytes| {
                told.fetch_add(bytes, Ordering::Relaxed);
            })
        };
        let put = sink.put_blob(root, blob, Arc::clone(source), moved).await.unwrap();
        if put == PutResult::Moved {
            assert_eq!(told.load(Ordering::Relaxed), blob.size, "{} in bytes", blob.digest);
        }
    });
    // At the same time: the sink must cope with concurrent calls.
    futures::future::join_all(puts).await;
    for blob in &needs.blobs {
        let put = sink.put_blob(root, blob, Arc::clone(source), Arc::new(|_| {})).await.unwrap();
        assert_eq!(put, PutResult::Present, "{}", blob.digest);
    }
}

async fn check_manifests<S: Sink>(sink: &S, root: &Root, needs: &RootClosure, from: &Store) {
    for manifest in &needs.manifests {
        let bytes = read_blob(from, &manifest.digest, Manifest::MAX_SIZE).unwrap();
        sink.put_manifest(root, manifest, bytes.clone()).await.unwrap();
        let again = sink.put_manifest(root, manifest, bytes).await.unwrap();
        assert_eq!(again, PutResult::Present, "{}", manifest.digest);
    }
}

/// Returns the right number of wrong bytes for every blob.
struct WrongBytesSource(Store);

impl Source for WrongBytesSource {
    fn roots(&self) -> Result<Vec<Root>> {
        Store::roots(&self.0)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.0.blob_size(digest)
    }

    fn open_blob(&self, _: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let length = range.end - range.start;
        Ok(SourceReader::new(std::io::repeat(b'x').take(length), length))
    }
}

/// Bytes that do not repeat, the same for the same seed (splitmix64).
fn sample_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}

fn add_manifest(store: &Store, layers: &[&[u8]]) -> Descriptor {
    let blob = |media_type: &str, bytes: &[u8]| {
        Descriptor::new(media_type, store.put_bytes(bytes).unwrap(), bytes.len() as u64)
    };
    let config = blob(media_type::OCI_CONFIG, b"{\"architecture\":\"amd64\",\"os\":\"linux\"}");
    let layers: Vec<Descriptor> =
        layers.iter().map(|bytes| blob(media_type::OCI_LAYER_TAR, bytes)).collect();
    add_document(
        store,
        media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        }),
    )
}

fn add_index(store: &Store, manifests: &[&Descriptor]) -> Descriptor {
    add_document(
        store,
        media_type::OCI_INDEX,
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": manifests,
        }),
    )
}

fn make_root(name: &str, kind: RootKind, descriptor: &Descriptor) -> Root {
    Root::new(name.parse().unwrap(), kind, descriptor.clone())
}

fn add_document(store: &Store, media_type: &str, value: &serde_json::Value) -> Descriptor {
    let bytes = value.to_string().into_bytes();
    Descriptor::new(media_type, store.put_bytes(&bytes).unwrap(), bytes.len() as u64)
}
