//! The integration tests of the depot. One binary for all: each more would be linked anew.

mod common;
mod concurrent_reads;
mod damage;
mod hub;
mod oci;
mod volumes;
