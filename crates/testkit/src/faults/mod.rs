//! Network failures: a proxy in front of any server, which cuts, stalls, slows, refuses and
//! falsifies on demand, and remembers every request, so that a test can tell what was fetched
//! twice.
//!
//! ```no_run
//! # use gantry_testkit::{faults::{Fault, Times}, Faults, Registry};
//! let registry = Registry::start();
//! let faults = Faults::before(&registry.url());
//! faults.on("/blobs/", Fault::Cut { after: 1 << 20 }, Times::Exactly(2));
//! // … a client works against faults.url() …
//! assert_eq!(faults.requests().iter().filter(|request| request.start() > 0).count(), 2);
//! ```

mod fault_proxy;
mod proxy;
mod wire_fault;

pub use fault_proxy::FaultProxy;
pub use wire_fault::{FaultRepeats, SeenRequest, WireFault};
