//! The test environment: real servers, real images, a real model, and the failures that they meet.
//!
//! Tests of every crate build their environment here, and so does the demo (with the `testkit`
//! binary). Nothing is mocked: registries are Debian's docker-registry, images are made from Debian
//! packages without a container engine ([`TestImages`]), models come from a [`TestHub`] that the five
//! checked versions of huggingface_hub accept, and failures are made on the wire ([`FaultProxy`]), on
//! the disk ([`Tmpfs`]) and with SIGKILL ([`gantry::RunningGantry`]).
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

mod build_once;
pub mod charts;
mod cluster;
mod credentials;
mod engine;
mod environment;
pub mod faults;
mod folder_files;
pub mod gantry;
mod hub;
pub mod images;
pub mod json_schema;
mod network;
mod nginx;
mod process;
mod registry;
mod s3;
pub mod scan;
pub mod store_suite;
mod tls;
mod tmpfs;
pub mod tools;
pub mod workloads;

pub use cluster::{RegistryTrust, TestCluster, TestNamespace};
pub use credentials::TestLogin;
pub use engine::PodmanService;
pub use environment::TestEnvironment;
pub use faults::FaultProxy;
pub use gantry::{CommandOutput, Gantry};
pub use hub::{MINILM, TestHub, TestHubBuilder};
pub use images::TestImages;
pub use network::loopback_only_command;
pub use nginx::NginxProxy;
pub use process::wait_until;
pub use registry::{TestRegistry, TestRegistryBuilder};
pub use s3::S3Server;
pub use tls::TestAuthority;
pub use tmpfs::Tmpfs;
