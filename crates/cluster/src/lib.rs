//! Access to one Kubernetes cluster: connect to it, read and write objects with owned fields, check
//! permissions before anything is written, run pods and programs in them, forward ports, and
//! explain why something is not ready. The `kube` crate is used only here; other crates see
//! [`Cluster`], this crate's [`Error`], and the typed objects of [`objects`].
//!
//! Data flow: [`ClusterAccess`] names a kubeconfig and a context, and [`Cluster::connect`] makes the
//! client from it. `object` has typed objects, `manifest` objects of any kind, `managed_fields` who owns what in them, `permissions` what
//! the user may do; `pod`, `exec`, `log_stream` and `port_forward` are about running pods, `settling` says when a ready pod
//! can be relied on, `expiry` makes objects that delete themselves.

mod access;
mod claim_reason;
mod ephemeral_container;
mod error;
mod exec;
mod expiry;
mod field_path;
mod kinds;
mod log_stream;
mod managed_fields;
mod manifest;
mod object;
mod owner;
mod permission;
mod permissions;
mod pod;
mod pod_reason;
pub mod pod_spec;
mod port_forward;
mod resolved_kind;
mod settling;
mod watch;

pub use access::{Cluster, ClusterAccess};
pub use claim_reason::is_default_storage_class;
pub use error::{Error, FieldConflict, Result};
pub use exec::{ExecOutput, ExecSession};
pub use field_path::FieldPath;
/// The typed objects of the Kubernetes API, from `k8s-openapi`.
pub use k8s_openapi as objects;
pub use kinds::{DiscoveredKinds, ResourceKind};
pub use managed_fields::{FieldOperation, OwnedField, OwnedFields, merge_into_applied};
pub use manifest::{
    AppliedManifest, ApplyMode, FieldConflicts, ManifestApply, ObjectId, without_server_fields,
};
pub use object::{ApplyEffect, ObjectScope, TypedObject};
pub use owner::{MANAGER, PART, is_own, mark_as_own};
pub use permission::Permission;
pub use pod::{AwaitedPodState, has_ended};
pub use pod_reason::{NotReadyCause, NotReadyReason, explain_pod, is_being_deleted};
pub use port_forward::{ForwardTarget, PortForward};
pub use settling::SettlingPods;
pub use watch::WatchedChange;
