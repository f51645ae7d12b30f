//! The webhook's metrics, served on `/metrics`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The metrics of one webhook. A clone counts into the same metrics.
#[derive(Debug, Clone, Default)]
pub(super) struct WebhookMetrics {
    pub(super) reviews: Family<ReviewLabels, Counter>,
    pub(super) moved: Counter,
    pub(super) unknown: Counter,
    pub(super) reload_failures: Counter,
}

/// The label of the review counter: how a pod was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReviewLabels {
    pub(super) verdict: &'static str,
}

impl WebhookMetrics {
    /// A Prometheus registry with these metrics.
    pub(super) fn build_registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("gantry_webhook");
        let help = "Pods reviewed, by verdict: unchanged, moved (images renamed), warned, refused, or invalid";
        registry.register("reviews", help, self.reviews.clone());
        registry.register(
            "images_moved",
            "Images that were renamed to their names at the site",
            self.moved.clone(),
        );
        let help = "Images that are in no lock";
        registry.register("images_unknown", help, self.unknown.clone());
        let help = "Times that changed files could not be read, so that the last ones were kept";
        registry.register("reload_failures", help, self.reload_failures.clone());
        registry
    }

    /// Counts one reviewed pod.
    pub(super) fn count_review(&self, verdict: &'static str) {
        self.reviews.get_or_create(&ReviewLabels { verdict }).inc();
    }
}
