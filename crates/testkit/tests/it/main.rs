//! The tests of the test environment itself. One binary for all: each more would be linked anew.
//! Those that need a cluster are in `tests/cluster.rs`.

mod charts;
mod faults;
mod hub;
mod machine;
mod registry;
mod stand_ins;
