//! The integration tests of the `gantry` command, as users run it. One binary for all: each more would be linked anew.
//! Those that need a cluster are in `tests/cluster`.

mod archives;
mod buckets;
mod carry;
mod charts;
mod collect;
mod evidence;
mod extract;
mod fetch;
mod habits;
mod image;
mod images;
mod input;
mod kill;
mod land;
mod lock;
mod manifests;
mod models;
mod moved;
mod output;
mod pins;
mod policy;
mod possible;
mod post_render;
mod refused;
mod relocate;
mod render;
mod secrets;
mod serve;
mod sha512;
mod slow;
mod snapshots;
mod sources;
#[path = "../story/mod.rs"]
mod story;
mod terminal;
mod values;
mod webhook;
mod wiring;
