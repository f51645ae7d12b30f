//! `cargo xtask charts`: runs the real charts through find, move and prove, each with a few
//! realistic values of our own (`crates/xtask/charts/*.yaml`), tries to refute what Gantry says of
//! them, and writes `docs/explanation/charts.md`.

mod cpu;
mod examine;
mod generated;
mod ground;
mod measure;
mod pods;
mod reasons;
mod row;
mod scan;
mod set_by_hand;
mod table;

pub(crate) use measure::measure;
