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
//! [`soak`] changes the cluster for the time of the audit (helper pods in a namespace of their own, a
//! changed Corefile) and puts everything back; [`dns`] has the record that survives a crash.

mod error;
mod evidence;
mod helpers;
mod line;
mod surroundings;
mod tally;

pub mod connections;
pub mod corefile;
pub mod coverage;
pub mod dns;
pub mod findings;
pub mod inside;
pub mod pods;
pub mod report;
pub mod sink;
pub mod soak;

pub use error::{Error, Result};
pub use evidence::{Evidence, Exercised, Outcome, Seeing};
pub use helpers::NAMESPACE;
pub use inside::{Declared, Inside};
pub use line::{Attempt, Line, Protocol, Query, Source};
pub use surroundings::{Surroundings, surroundings};
pub use tally::Seen;

/// Ten random letters and digits: enough that no other audit has the same.
fn token() -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..10).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}
