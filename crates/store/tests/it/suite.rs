//! A store is a source and a sink like any other: the suite for both, run on stores.
#![allow(clippy::unwrap_used)]

use gantry_store::Store;
use testkit::store_suite::{add_sparse_sample, check_sink, check_source, fill_with_sample};

#[test]
fn a_store_is_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    fill_with_sample(&store);
    add_sparse_sample(&store);

    check_source(&store, &store);
}

#[test]
fn a_store_is_a_sink() {
    let folder = tempfile::tempdir().unwrap();
    let from = Store::open(folder.path().join("from")).unwrap();
    fill_with_sample(&from);
    add_sparse_sample(&from);
    let to = Store::open(folder.path().join("to")).unwrap();

    futures::executor::block_on(check_sink(&to, &from));

    check_source(&to, &from);
}
