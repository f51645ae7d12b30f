//! One Kubernetes cluster, as the verbs on the inside need it: connect and say which one it is,
//! read and write objects with owned fields, ask for rights before anything is written, run pods,
//! talk to them, and say in words why something is not ready. All of kube stays in here; others
//! see [`Cluster`], this crate's [`Error`], and the typed objects of [`objects`].
//!
//! The way of the data: [`Access`] names a kubeconfig and a context, [`Cluster::connect`] makes the
//! client; `object` has typed objects, `manifest` those of any kind, `rights` what the user may do,
//! `pod`, `exec` and `forward` what runs.

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
/// The typed objects of the API, as `k8s-openapi` has them.
pub use k8s_openapi as objects;
pub use kinds::{Kinds, Resource};
pub use manifest::{Id, Mode, Written};
pub use object::{Applied, Object, Scope};
pub use owner::{MANAGER, PART, is_own, own};
pub use pod::Until;
pub use reason::{Reason, of_pod};
pub use rights::Right;
pub use watch::Change;
