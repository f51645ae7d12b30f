//! `cargo xtask charts`: runs the real charts through find, move and prove, each with a few
//! realistic values of our own (`crates/xtask/charts/*.yaml`), and writes `docs/explanation/charts.md`.

mod ground;
mod measure;
mod row;
mod scan;
mod table;

pub(crate) use measure::measure;
