//! The test environment: real servers, real images, a real model, and the failures that they meet.
//!
//! Tests of every crate build their environment here, and so does the demo (with the `testkit`
//! binary). Nothing is mocked: registries are Debian's docker-registry, images are made from Debian
//! packages without a container engine ([`Images`]), models come from a [`Hub`] that the five
//! checked versions of huggingface_hub accept, and failures are made on the wire ([`Faults`]), on
//! the disk ([`Tmpfs`]) and with SIGKILL ([`gantry::Running`]).
//!
//! What `dev/setup` installs must be present. An environment that cannot be built is the test's
//! failure, so functions here panic with what is missing and the next step instead of returning
//! errors.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a world that cannot be built is the test's failure; see above"
)]

pub mod charts;
mod cluster;
mod credentials;
mod engine;
pub mod faults;
mod files;
pub mod gantry;
mod hub;
pub mod images;
mod network;
mod once;
mod process;
mod registry;
mod s3;
pub mod scan;
mod tls;
mod tmpfs;
pub mod tools;
pub mod workloads;
mod world;

pub use cluster::{Cluster, Namespace, Trust};
pub use credentials::Login;
pub use engine::Engine;
pub use faults::Faults;
pub use gantry::Gantry;
pub use hub::{Hub, HubBuilder, MINILM};
pub use images::Images;
pub use network::loopback_only;
pub use process::until;
pub use registry::{Registry, RegistryBuilder};
pub use s3::S3;
pub use tls::Authority;
pub use tmpfs::Tmpfs;
pub use world::World;
