//! The integration tests of the store. One binary for all: each more would be linked anew.

mod collect;
mod common;
mod full_disk;
mod layouts;
mod processes;
mod suite;
mod tools;
mod writer;
