//! Runs helm on a thread for blocking work. If the future is dropped (Ctrl-C, a lost race), helm
//! gets a signal to stop instead of being killed, so that it can record the failure in its own
//! records.

use crate::{Error, Result};
use remote::helm::{HelmClient, HelmStop};

/// Asks helm to stop when it is dropped.
struct StopOnDrop(HelmStop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.request_stop();
    }
}

/// Runs one helm command, `verb`, and returns its result.
pub(super) async fn run_helm<T: Send + 'static>(
    helm: &HelmClient,
    verb: impl FnOnce(&HelmClient, &HelmStop) -> remote::Result<T> + Send + 'static,
) -> Result<T> {
    let stop = HelmStop::default();
    // Dropped with this future. The thread goes on until helm has ended: it cannot be cancelled.
    let _guard = StopOnDrop(stop.clone());
    let helm = helm.clone();
    let work = tokio::task::spawn_blocking(move || verb(&helm, &stop));
    let done =
        work.await.map_err(|cause| Error::Lost { what: "the run of helm".to_owned(), cause })?;
    Ok(done?)
}
