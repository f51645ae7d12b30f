//! The mutating admission webhook: it changes images that neither an overlay nor a post-renderer
//! reached (of pods that operators, hooks or people with kubectl create) to their names at the
//! site.
//!
//! Data flow: [`WebhookFiles`] (the site, locks and receipts) are read into [`WebhookImages`], which knows the
//! name of every locked image at the site. The API server sends an AdmissionReview; the [`build_router`]
//! takes it, `review` decides, and the answer is a patch, a warning or a denial. `manifests`
//! makes the objects that a cluster needs for this, [`apply_manifests`] applies them, and [`CertificateKeeper`] renews the
//! certificate.

mod apply;
mod certificate;
mod certificate_keeper;
mod configuration;
mod configuration_guard;
mod files;
mod images;
mod labels;
mod metrics;
mod review;
mod router;
mod shortened_locks;
#[cfg(test)]
mod test_sample;

pub mod manifests;

pub use apply::apply_manifests;
pub use certificate::{SelfSignedCertificate, host_of_url};
pub use certificate_keeper::CertificateKeeper;
pub use configuration::{ENFORCE, LABEL, MOVE, WebhookAddress};
pub use files::{WebhookFiles, WebhookImagesWatch};
pub use images::{ImageDecision, ImagePinning, WebhookImages};
pub use review::{AdmissionDecision, NamespaceGuard, judge_review};
pub use router::{Webhook, build_router};
