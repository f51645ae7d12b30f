//! Loads models into volumes of a cluster, through a pod of Gantry's own image that mounts the claim
//! or a node's disk. That pod is called a *seeder*.
//!
//! ```text
//!  this process                                               seeder pod
//!  ────────────                                               ──────────
//!  volume      is the claim there? make it
//!  seeder      start the pod, exec `gantry models receive`
//!  pod_session send the order ════════ stdin ═══════════════▶ receive       do the order
//!  piece_server  send pieces of blobs ◀═ stdout ═ requests ══ exec_source   over the API server, or
//!                                                             registry      from a registry or depot
//!  pod_session progress, result ◀═════ stderr ══ events ═════ models::write_models
//! ```
//!
//! The pod writes with [`crate::models`], the same code that writes a folder on this machine. So a
//! killed push, a killed pod and a lost connection leave what was written, and the next run resumes.
//! The pod gets the bytes from the site's registry or a depot, and through the API server from this
//! process where neither has them.

mod error;
mod exec_source;
mod frame;
mod mount_source;
mod node;
mod order;
mod piece_server;
mod pod;
mod pod_session;
mod push;
mod receive;
mod registry;
mod seed_route;
mod seeder;
mod transfer_route;
mod verify;
mod volume;

pub use error::{Error, Result};
pub use node::{AllowedNodePath, NodePath};
pub use order::{MOUNT, ModelRegistry, SeederEvent, SeederFailureKind, SeederOrder, SeederTask};
pub use pod::{SeederImage, VolumeUse};
pub use push::SeederPush;
pub use receive::{PodEnvironment, execute_order};
pub use seed_route::{SeedRoute, SeedRouteChoice};
pub use seeder::{ClaimCreation, Seeder};
pub use transfer_route::TransferRoute;
pub use verify::{POD_TIMEOUT, verify_claim};
pub use volume::ClaimVolume;
