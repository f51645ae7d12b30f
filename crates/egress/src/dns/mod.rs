//! The cluster's name service: where CoreDNS has its Corefile, its change for the time of an audit,
//! and its return.

mod find;
mod record;
mod switch;

pub use find::{CoreDns, find};
pub(crate) use record::{Lock, NAME as RECORD_NAME};
pub(crate) use switch::{put_back, switch};
