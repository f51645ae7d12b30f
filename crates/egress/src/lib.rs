//! The egress audit: what would leave the cluster by its settings, and what tried to leave while an
//! audit listened, each with the workload and the setting that stops it.
//!
//! ```text
//!  rendered charts, live objects ──▶ findings (static) ─────────────────────────────┐
//!  site.yaml, live objects ────────▶ coverage (network policies) ───────────────────┤
//!                                                                                   ├─▶ report
//!  soak: CoreDNS ─▶ sink (names) ───────┐                                           │
//!        nodes ──▶ connections (packets)┴─▶ pod logs ─▶ evidence (+ pods) ──────────┘
//! ```
//!
//! [`run_soak`] changes the cluster for the time of the audit (helper pods in a namespace of their own, a
//! changed Corefile) and puts everything back; [`dns`] has the record that survives a crash.

mod cluster_network;
mod error;
mod evidence;
mod exercise;
mod helper_namespace;
mod helpers;
mod observer;
mod pull_secret_loan;
mod tally;

pub mod connections;
pub mod corefile;
pub mod coverage;
pub mod dns;
pub mod findings;
pub mod perimeter;
pub mod pods;
pub mod report;
pub mod sink;
pub mod soak;
mod soak_options;

pub use cluster_network::{ClusterNetwork, read_cluster_network};
pub use error::{Error, Result};
pub use evidence::{AuditEvidence, ExerciseOutcome, ExerciseResult, Observer};
pub use exercise::{AuditExercise, find_releases};
pub use helper_namespace::NAMESPACE;
pub use observer::{
    DnsQuery, ObservationMethod, ObservedProtocol, ObserverMessage, OutgoingPacket,
};
pub use perimeter::{InsideDeclaration, Perimeter};
pub use tally::Sightings;
