//! A limit of the bytes per second of all transfers of a client together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A limit of bytes per second. Clones share it.
#[derive(Debug, Clone)]
pub struct BandwidthLimit {
    per_second: u64,
    /// When the bytes that were let through so far are paid for.
    free_at: Arc<Mutex<Instant>>,
}

impl BandwidthLimit {
    /// A limit of so many bytes per second; at least 1.
    pub fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1), free_at: Arc::new(Mutex::new(Instant::now())) }
    }

    /// The bytes per second.
    pub fn per_second(&self) -> u64 {
        self.per_second
    }

    /// Waits until these bytes may pass. Called after a chunk was received or before one is sent: over a
    /// few seconds the rate is the limit, whatever the size of the chunks.
    pub async fn wait_for_bytes(&self, bytes: u64) {
        let wait = self.take_turn(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Adds the bytes to what is to be paid for, and returns how long to wait.
    fn take_turn(&self, bytes: u64, now: Instant) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "only the length of a wait")]
        let cost = Duration::from_secs_f64(bytes as f64 / self.per_second as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Time in which nothing was transferred is not saved up: a burst would exceed the limit.
        *free_at = (*free_at).max(now) + cost;
        free_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_transfers_together_keep_the_limit() {
        let limit = BandwidthLimit::new(1000);
        let other = limit.clone();
        let now = Instant::now() + Duration::from_secs(5);
        assert_eq!(limit.take_turn(500, now), Duration::from_millis(500));
        assert_eq!(other.take_turn(500, now), Duration::from_secs(1));
        // Ten idle seconds later nothing is owed, and nothing was saved up.
        let later = now + Duration::from_secs(10);
        assert_eq!(limit.take_turn(1000, later), Duration::from_secs(1));
    }
}
