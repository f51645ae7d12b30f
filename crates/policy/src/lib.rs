//! What a cluster lets in and out, written as Kubernetes' own policies: only locked images start,
//! and nothing talks to the outside. Pure: a lock and a site go in, manifests come out; nothing is
//! applied here, and no cluster is asked.
//!
//! The way of the data: [`Allowed`] is what a site has of its locks; [`images`] says it in the
//! language of each admission controller; [`egress`] writes the network policies of a namespace,
//! and [`coverage`] says what of a chart they do not hold.

mod allowed;
mod error;
mod flow;
mod manifest;
mod name;

pub mod coverage;
pub mod egress;
pub mod images;

pub use allowed::{Admit, Allowed};
pub use error::{Error, Result};
pub use flow::{Flow, Neighbour, Protocol};
pub use manifest::print;
pub use name::{Label, Namespace, Scope};
