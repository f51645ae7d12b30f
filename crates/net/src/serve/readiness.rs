//! `/readyz`: whether the server can do its work, as the caller's own check says.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// The longest time for a check. Kubernetes gives up after one second by default, and asks again.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a readiness check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Requests can be served. The remarks, one a line, are answered as well.
    Ready(Vec<String>),
    /// No request can be served; with the reason. Answered as 503, so that Kubernetes and load balancers
    /// turn to another instance.
    NotReady(String),
}

/// What a server asks at each `/readyz`.
pub trait ReadinessProbe: Send + Sync + 'static {
    /// Whether requests can be served now. May block on a disk.
    fn check_readiness(&self) -> Readiness;
}

/// The probe of a server that is ready as soon as it answers.
#[derive(Debug, Clone, Copy)]
pub struct AlwaysReady;

impl ReadinessProbe for AlwaysReady {
    fn check_readiness(&self) -> Readiness {
        Readiness::Ready(Vec::new())
    }
}

/// `GET /readyz`.
pub(super) async fn answer_readiness(State(probe): State<Arc<dyn ReadinessProbe>>) -> Response {
    let check = tokio::task::spawn_blocking(move || probe.check_readiness());
    let readiness = match tokio::time::timeout(CHECK_TIMEOUT, check).await {
        Ok(Ok(readiness)) => readiness,
        Ok(Err(lost)) => Readiness::NotReady(format!("the check failed: {lost}")),
        Err(_) => Readiness::NotReady(format!("the check takes longer than {CHECK_TIMEOUT:?}")),
    };
    let (status, text) = match readiness {
        Readiness::Ready(remarks) => {
            let lines = remarks.iter().map(|remark| format!("{remark}\n"));
            (StatusCode::OK, std::iter::once("ok\n".to_owned()).chain(lines).collect::<String>())
        }
        Readiness::NotReady(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
        }
    };
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
