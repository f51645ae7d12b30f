//! `cargo xtask bench`: the main job on the slow images, side by side with skopeo, crane, regctl and
//! the floor, and what the design promises beyond that. The result is `docs/explanation/benchmarks.md`.
//!
//! ```text
//!  testkit's images ──▶ a docker-registry ──Tool, Step──▶ measure ──▶ Results ──▶ report
//! ```
//!
//! Everything runs on one machine, the registries too, in one run on one corpus. Each round gives
//! every tool the whole way in a fresh folder, to a fresh registry; the order moves on by one each
//! round, and is turned every other round, so that nobody always has the tired machine.

pub(crate) mod extra;
pub(crate) mod ground;
pub(crate) mod machine;
pub(crate) mod measure;
mod report;
mod results;
mod run;
mod serve;
mod tool;

pub(crate) use run::{run, run_serve};
