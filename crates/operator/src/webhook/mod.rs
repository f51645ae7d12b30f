//! The mutating admission webhook: it changes images that neither an overlay nor a post-renderer
//! reached (of pods that operators, hooks or people with kubectl create) to their names at the
//! site.
//!
//! Data flow: [`Files`] (the site, locks and receipts) are read into [`Locked`], which knows the
//! name of every locked image at the site. The API server sends an AdmissionReview; the [`router`]
//! takes it, `review` decides, and the answer is a patch, a warning or a denial. `manifests`
//! makes the objects that a cluster needs for this, [`apply`] applies them, and [`Keep`] renews the
//! certificate.

mod apply;
mod certificate;
mod configuration;
mod files;
mod keep;
mod locked;
mod numbers;
mod review;
mod router;
#[cfg(test)]
mod sample;
mod shortened;

pub mod manifests;

pub use apply::apply;
pub use certificate::{SelfMade, host_of};
pub use configuration::{Address, ENFORCE, LABEL, MOVE};
pub use files::{Files, Watched};
pub use keep::Keep;
pub use locked::{Locked, Pin, Verdict};
pub use review::{Guard, Judged, judge};
pub use router::{Webhook, router};
