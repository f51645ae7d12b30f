//! The metrics of a depot: what was checked, and what is damaged.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The numbers of a depot; clones share them.
#[derive(Clone, Default)]
pub(crate) struct DepotMetrics {
    damaged: Gauge,
    unserved: Gauge,
    checks: Family<CheckLabels, Counter>,
    aborted: Counter,
}

/// Whether a blob that was read whole had its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckResult {
    Intact,
    Damaged,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    result: &'static str,
}

impl DepotMetrics {
    /// Adds the metrics to what a server answers at `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("gantry_depot");
        let help = "Blobs that are known to be damaged now";
        registry.register("damaged_blobs", help, self.damaged.clone());
        let help = "Roots that were left out at the start, absent or damaged";
        registry.register("unserved_roots", help, self.unserved.clone());
        let help = "Blobs that were read whole, by whether they had their digest";
        registry.register("blob_checks", help, self.checks.clone());
        let help = "Responses that were ended before their last byte, since the content is damaged";
        registry.register("aborted_responses", help, self.aborted.clone());
    }

    pub(crate) fn set_damaged_blobs(&self, count: usize) {
        self.damaged.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_unserved_roots(&self, count: usize) {
        self.unserved.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A blob was read whole.
    pub(crate) fn count_check(&self, result: CheckResult) {
        let result = match result {
            CheckResult::Intact => "intact",
            CheckResult::Damaged => "damaged",
        };
        self.checks.get_or_create(&CheckLabels { result }).inc();
    }

    pub(crate) fn count_aborted_response(&self) {
        self.aborted.inc();
    }
}
