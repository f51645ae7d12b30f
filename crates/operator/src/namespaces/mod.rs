//! Keeps what the site gives to its namespaces: as namespaces appear or get the site's labels, they get
//! the pull secret, the CA, the pull secret in their service accounts, and network policies.
//!
//! [`NamespaceKeeper`] watches namespaces and writes to those that site.yaml selects; `guard` has its
//! rights, and the admission rule that keeps it from using them anywhere else.

mod guard;
mod keeper;

pub use guard::NamespaceRights;
pub use keeper::{NamespaceKeeper, SITE_CA};
