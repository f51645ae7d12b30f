//! The webhook's HTTP routes: they take an AdmissionReview of bounded size in bounded time, let
//! [`judge_review`] decide, and count and encode the answer.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use net::serve::EndpointName;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::files::{WebhookFiles, WebhookImagesWatch};
use super::metrics::WebhookMetrics;
use super::review::{NamespaceGuard, judge_review};
use crate::Result;

/// The path that the API server calls for namespaces where images that are not locked are refused.
pub(super) const ENFORCE: &str = "/enforce";
/// The path for namespaces where images are only renamed.
pub(super) const MOVE: &str = "/move";

/// The largest review: it holds an object twice, before and after, and the API server takes objects
/// of up to 3 MiB.
const LARGEST: usize = 8 << 20;
/// The longest time for a review. The API server gives up before that (`timeoutSeconds`); this
/// frees what slow clients hold.
const LONGEST: Duration = Duration::from_secs(10);

/// The state of a running webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    watched: WebhookImagesWatch,
    numbers: WebhookMetrics,
}

impl Webhook {
    /// Reads the files and goes on watching them.
    pub fn start(files: WebhookFiles) -> Result<Self> {
        let numbers = WebhookMetrics::default();
        let failures = numbers.reload_failures.clone();
        let watched = WebhookImagesWatch::start(files, move |error| {
            failures.inc();
            tracing::warn!("the changed files cannot be read, the last ones are kept: {error}");
        })?;
        Ok(Self { watched, numbers })
    }

    /// The number of repositories that are locked now.
    pub fn repository_count(&self) -> usize {
        self.watched.current().len()
    }

    /// Its metrics, for `/metrics`.
    pub fn metrics_registry(&self) -> Registry {
        self.numbers.build_registry()
    }
}

/// The routes of the webhook.
pub fn build_router(webhook: Webhook) -> Router {
    let enforce = |State(webhook): State<Webhook>, body: Bytes| async move {
        webhook.answer_review(&body, NamespaceGuard::Enforce)
    };
    let only_move = |State(webhook): State<Webhook>, body: Bytes| async move {
        webhook.answer_review(&body, NamespaceGuard::Move)
    };
    Router::new()
        .route(ENFORCE, post(enforce))
        .route(MOVE, post(only_move))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(axum::middleware::from_fn(limit_time))
        .with_state(webhook)
}

/// Limits the time of a request, including the time until its body has arrived.
async fn limit_time(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => axum::http::StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

impl Webhook {
    /// Answers one AdmissionReview and counts it.
    fn answer_review(&self, body: &[u8], guard: NamespaceGuard) -> Response {
        let request = match parse_request(body) {
            Ok(request) => request,
            Err(reason) => {
                self.numbers.count_review("invalid");
                // Not a valid review: without a proper answer, the API server applies
                // `failurePolicy`.
                return (axum::http::StatusCode::BAD_REQUEST, reason).into_response();
            }
        };
        let judged = judge_review(&request, &self.watched.current(), guard);
        self.numbers.moved.inc_by(judged.moved as u64);
        self.numbers.unknown.inc_by(judged.unknown as u64);
        self.numbers.count_review(match (judged.response.allowed, judged.unknown, judged.moved) {
            (false, ..) => "refused",
            (true, 1.., _) => "warned",
            (true, 0, 1..) => "moved",
            (true, 0, 0) => "unchanged",
        });
        match encode_review(judged.response) {
            Ok(answer) => (Extension(EndpointName("webhook")), Json(answer)).into_response(),
            Err(cause) => {
                tracing::error!("cannot encode an answer: {cause}");
                axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Encodes the answer as JSON, with the patch in base64, as the API defines it. `kube` would write
/// it as a list of numbers, which Go accepts as well, but which is four times as long.
fn encode_review(mut response: AdmissionResponse) -> serde_json::Result<Value> {
    let patch = response.patch.clone().map(ByteString).map(serde_json::to_value).transpose()?;
    response.patch = None;
    let mut answer = serde_json::to_value(response.into_review())?;
    if let Some(patch) = patch {
        answer["response"]["patch"] = patch;
    }
    Ok(answer)
}

/// Parses the body and checks that it is a review of a pod.
fn parse_request(body: &[u8]) -> Result<AdmissionRequest<Pod>, String> {
    let review: AdmissionReview<Pod> = serde_json::from_slice(body)
        .map_err(|cause| format!("the body is not an AdmissionReview of a Pod: {cause}"))?;
    let request: AdmissionRequest<Pod> =
        review.try_into().map_err(|_| "the AdmissionReview has no request".to_owned())?;
    if request.types.api_version != "admission.k8s.io/v1" {
        return Err(format!(
            "AdmissionReview version {} is not supported, only admission.k8s.io/v1",
            request.types.api_version
        ));
    }
    if request.resource.resource != "pods" || !request.resource.group.is_empty() {
        return Err(format!("{} are not reviewed, only pods", request.resource.resource));
    }
    Ok(request)
}
