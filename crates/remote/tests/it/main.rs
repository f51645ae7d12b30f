//! The integration tests of everything that is fetched from or pushed to. One binary for all: each more would be linked anew.

mod charts;
mod hub;
mod local_images;
mod lookups;
mod models_in_images;
mod oci_pull;
mod oci_push;
mod oci_refusals;
mod oci_uploads;
mod registry;
mod set_expressions;
mod world;
