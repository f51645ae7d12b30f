//! Network failures: a proxy in front of any server, which cuts, stalls, slows, refuses and
//! falsifies on demand, and remembers every request, so that a test can tell what was fetched
//! twice.
//!
//! ```no_run
//! # use gantry_testkit::{faults::{FaultRepeats, WireFault}, FaultProxy, TestRegistry};
//! let registry = TestRegistry::start();
//! let faults = FaultProxy::in_front_of(&registry.url());
//! faults.inject("/blobs/", WireFault::Cut { after: 1 << 20 }, FaultRepeats::Exactly(2));
//! // … a client works against faults.url() …
//! assert_eq!(faults.requests().iter().filter(|request| request.range_start() > 0).count(), 2);
//! ```

mod fault_proxy;
mod proxy;
mod wire_fault;

pub use fault_proxy::FaultProxy;
pub use wire_fault::{FaultRepeats, SeenRequest, WireFault};
