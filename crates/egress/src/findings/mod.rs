//! Static findings: settings by which a workload would reach outside, in rendered manifests and in the
//! objects of the cluster, each with the setting that stops it. The rules are those of
//! [`chart::phone_home`]; `objects` adds what only Kubernetes objects say (an ExternalName service, a
//! webhook), `live` reads the cluster's objects.

mod finding;
mod live;
mod objects;
mod scan;

pub use finding::{FindingOrigin, StaticFinding};
pub use live::{read_live_objects, required_rights};
pub use scan::{find_outside_references, merge_findings, read_rendered_objects};
