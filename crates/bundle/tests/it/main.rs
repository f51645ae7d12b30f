//! The integration tests of bundle files. One binary for all: each more would be linked anew.

mod common;
mod damage;
mod interrupted;
mod pack;
mod several_disks;
mod source;
mod vectors;
