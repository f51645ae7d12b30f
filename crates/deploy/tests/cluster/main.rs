//! The tests of checks that need the cluster of dev/cluster: make test-cluster.

mod check;
mod inference;
mod manifests;
