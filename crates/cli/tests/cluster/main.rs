//! The tests of the `gantry` command that need the cluster of dev/cluster: make test-cluster.

mod audit;
mod deploy;
mod models;
mod platforms;
mod policy;
#[path = "../story/mod.rs"]
mod story;
mod support;
mod webhook;
