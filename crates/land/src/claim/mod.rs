//! Models into volumes of a cluster, by a pod of Gantry's own image that mounts the claim.
//!
//! ```text
//!  plans ─▶ volume (is the claim there? make it) ─▶ seed (a pod, exec) ═══ stdin, stdout ═══▶ receive (in the pod)
//!                                                      ▲  serve ◀── asked for over the API server ──┤ models::write
//!                                                      └── events: progress, what was put           └ registry, depot
//! ```
//!
//! All that writes is [`crate::models`], the same that puts models into a folder here: so a killed
//! push, a killed pod and a lost connection leave what was written, and the next run goes on. The pod
//! asks the site's registry or a depot for the bytes, and this process where neither answers.

mod asked;
mod error;
mod frame;
mod node;
mod order;
mod pod;
mod receive;
mod registry;
mod seed;
mod serve;
mod talk;
mod volume;

pub use error::{Error, Result};
pub use node::NodePath;
pub use order::{Event, Fault, From, MOUNT, Order, Task, Way};
pub use pod::{Image, Use};
pub use receive::{Place, receive};
pub use seed::{Creates, Seeder};
pub use volume::Volume;
