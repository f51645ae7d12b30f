//! The tests of the `gantry` command that need the cluster of dev/cluster: make test-cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod deploy;
mod drift;
mod manifests;
mod models;
mod namespaces;
mod platforms;
mod policy;
mod render;
#[path = "../story/mod.rs"]
mod story;
mod support;
mod updates;
mod webhook;
