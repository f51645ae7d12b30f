//! The mutating admission webhook: the last way to the site for an image that neither an overlay
//! nor a post-renderer reached (operators that write pods, hooks, people with kubectl).
//!
//! The way of the data: [`Files`] are read into [`Locked`], which knows what is called how at the
//! site; the API server asks with an AdmissionReview, [`review`] judges it, the [`router`] answers.
//! [`manifests`] are what a cluster needs for it, [`apply`] brings them there, and [`Keep`] keeps its
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
