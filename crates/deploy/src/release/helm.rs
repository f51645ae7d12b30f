//! helm off the async threads: it is told to stop when nobody waits for it any more, and writes down
//! that it was stopped.

use remote::helm::{InCluster, Stop};

use super::error::{Error, Result};

/// Tells helm to stop when it is dropped.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs one of helm's verbs.
pub(super) async fn run<T: Send + 'static>(
    helm: &InCluster,
    verb: impl FnOnce(&InCluster, &Stop) -> remote::Result<T> + Send + 'static,
) -> Result<T> {
    let stop = Stop::default();
    let _guard = StopOnDrop(stop.clone());
    let helm = helm.clone();
    let work = tokio::task::spawn_blocking(move || verb(&helm, &stop));
    let done = work
        .await
        .map_err(|cause| Error::Lost { what: "helm".to_owned(), cause: cause.to_string() })?;
    Ok(done?)
}
