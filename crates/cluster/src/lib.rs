//! Access to one Kubernetes cluster: connect to it, read and write objects with owned fields, check
//! permissions before anything is written, run pods and programs in them, forward ports, and
//! explain why something is not ready. The `kube` crate is used only here; other crates see
//! [`Cluster`], this crate's [`Error`], and the typed objects of [`objects`].
//!
//! Data flow: [`Access`] names a kubeconfig and a context, and [`Cluster::connect`] makes the
//! client from it. `object` has typed objects, `manifest` objects of any kind, `permissions` what
//! the user may do; `pod`, `exec`, `log_stream` and `port_forward` are about running pods.

mod access;
mod ephemeral;
mod error;
mod exec;
mod follow;
mod forward;
mod kinds;
mod manifest;
mod object;
mod owner;
mod pod;
mod reason;
mod rights;
mod watch;

pub use access::{Access, Cluster};
pub use error::{Error, Result};
pub use exec::{Exec, Outcome};
pub use forward::{Forward, Target};
/// The typed objects of the Kubernetes API, from `k8s-openapi`.
pub use k8s_openapi as objects;
pub use kinds::{Kinds, Resource};
pub use manifest::{Id, Mode, Written};
pub use object::{Applied, Object, Scope};
pub use owner::{MANAGER, PART, is_own, own};
pub use pod::Until;
pub use reason::{Reason, of_pod};
pub use rights::Right;
pub use watch::Change;
