//! Releases in a cluster: install them, check them, gather the evidence.

pub mod evidence;
