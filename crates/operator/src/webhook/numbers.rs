//! What the webhook counts, shown on `/metrics`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The numbers of one webhook; a clone counts into the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    pub(super) reviews: Family<Answered, Counter>,
    pub(super) moved: Counter,
    pub(super) unknown: Counter,
    pub(super) reload_failures: Counter,
}

/// How a pod was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Answered {
    pub(super) verdict: &'static str,
}

impl Numbers {
    /// The registry with these numbers in it.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("gantry_webhook");
        let help = "Pods judged: unchanged, moved, warned, refused, or not understood";
        registry.register("reviews", help, self.reviews.clone());
        registry.register("images_moved", "Images that got the site's name", self.moved.clone());
        let help = "Images that no lock has";
        registry.register("images_unknown", help, self.unknown.clone());
        let help =
            "Times that a changed lock or site could not be read, and the one before was kept";
        registry.register("reload_failures", help, self.reload_failures.clone());
        registry
    }

    pub(super) fn answered(&self, verdict: &'static str) {
        self.reviews.get_or_create(&Answered { verdict }).inc();
    }
}
