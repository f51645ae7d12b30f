//! The DNS sink: a name server that answers every question with NXDOMAIN and records who asked. During
//! an audit CoreDNS forwards to it all names that nothing in the cluster answers. It runs as a pod of
//! Gantry's own image, or in the audit's process at an address of this machine; what it saw it reports
//! as [`ObserverMessage`]s.

mod dns_sink;
pub(crate) mod message;
mod probe;

pub use dns_sink::{DnsSink, PORT};

pub use crate::observer::ObserverOutput;
