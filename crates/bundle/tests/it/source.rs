//! A bundle is a source like any other: the suite for sources, run on bundle files.
#![allow(clippy::unwrap_used)]

use crate::common::{self, World};
use gantry_bundle::BundleFileSize;
use types::ByteSize;

#[test]
fn a_bundle_of_one_volume_is_a_source() {
    let world = World::new();
    testkit::store_suite::add_sparse_sample(&world.store);

    let packed = world.pack(BundleFileSize::Unlimited);

    assert_eq!(packed.files.len(), 1);
    let bundle = gantry_bundle::Bundle::open(&world.paths()).unwrap();
    assert_eq!(bundle.lock(), common::LOCK);
    testkit::store_suite::check_source(&bundle, &world.store);
}

#[test]
fn a_bundle_of_many_small_volumes_is_a_source() {
    for size in [64 << 10, 100_001, 1 << 20] {
        let world = World::new();
        testkit::store_suite::add_sparse_sample(&world.store);

        let packed = world.pack(BundleFileSize::Below(ByteSize(size)));

        assert!(packed.files.len() > 2, "{} files", packed.files.len());
        assert!(packed.files.iter().all(|volume| volume.size < size));
        let bundle = gantry_bundle::Bundle::open(&world.paths()).unwrap();
        testkit::store_suite::check_source(&bundle, &world.store);
    }
}
