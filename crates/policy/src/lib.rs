//! Writes Kubernetes policies from locks and a site: admission policies, by which only locked
//! images start, and network policies, by which pods cannot connect to anything outside the site.
//!
//! Pure: locks and a site go in, manifests come out. Nothing is applied, and no cluster is
//! contacted.
//!
//! Data flow: [`AllowedImages`] is the list of images that a site has, from its locks and receipts;
//! [`images_expression`] writes it as a policy for one of three admission controllers; [`egress`] writes the
//! network policies of a namespace, and [`coverage`] lists what they do not restrict.

mod allowed_flow;
mod allowed_images;
mod error;
mod gap;
mod manifest;
mod name;

pub mod coverage;
pub mod egress;
pub mod images;

pub use allowed_flow::{AllowedFlow, AllowedNamespace, TransportProtocol};
pub use allowed_images::{AdmittedVersions, AllowedImages};
pub use error::{Error, Result};
pub use gap::{PolicyGap, PolicyGapKind};
pub use manifest::format_manifests;
pub use name::{Namespace, NamespaceLabel, NamespaceScope};
