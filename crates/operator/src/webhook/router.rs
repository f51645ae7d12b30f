//! The webhook's HTTP side: takes an AdmissionReview of bounded size and in bounded time, and
//! answers it.

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
use net::serve::Door;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::files::{Files, Watched};
use super::numbers::Numbers;
use super::review::{Guard, judge};
use crate::Result;

/// Where the API server asks for namespaces that refuse what is not locked.
pub(super) const ENFORCE: &str = "/enforce";
/// Where it asks for namespaces that only move.
pub(super) const MOVE: &str = "/move";

/// A question holds an object twice, before and after; the API server takes requests of 3 MiB.
const LARGEST: usize = 8 << 20;
/// The API server has given up long before (`timeoutSeconds`).
const LONGEST: Duration = Duration::from_secs(10);

/// A webhook that knows what is locked.
#[derive(Debug, Clone)]
pub struct Webhook {
    watched: Watched,
    numbers: Numbers,
}

impl Webhook {
    /// Reads the files, and watches them.
    pub fn start(files: Files) -> Result<Self> {
        let numbers = Numbers::default();
        let failures = numbers.reload_failures.clone();
        let watched = Watched::start(files, move |error| {
            failures.inc();
            tracing::warn!("what was locked before is kept: {error}");
        })?;
        Ok(Self { watched, numbers })
    }

    /// How many repositories are locked now.
    pub fn repositories(&self) -> usize {
        self.watched.locked().len()
    }

    /// Its numbers, for `/metrics`.
    pub fn metrics(&self) -> Registry {
        self.numbers.registry()
    }
}

/// The routes.
pub fn router(webhook: Webhook) -> Router {
    let enforce = |State(webhook): State<Webhook>, body: Bytes| async move {
        webhook.answer(&body, Guard::Enforce)
    };
    let only_move = |State(webhook): State<Webhook>, body: Bytes| async move {
        webhook.answer(&body, Guard::Move)
    };
    Router::new()
        .route(ENFORCE, post(enforce))
        .route(MOVE, post(only_move))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(axum::middleware::from_fn(in_time))
        .with_state(webhook)
}

/// The body has to come in this time as well.
async fn in_time(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => axum::http::StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

impl Webhook {
    fn answer(&self, body: &[u8], guard: Guard) -> Response {
        let request = match read(body) {
            Ok(request) => request,
            Err(reason) => {
                self.numbers.answered("invalid");
                // Anything but an answer: `failurePolicy` decides.
                return (axum::http::StatusCode::BAD_REQUEST, reason).into_response();
            }
        };
        let judged = judge(&request, &self.watched.locked(), guard);
        self.numbers.moved.inc_by(judged.moved as u64);
        self.numbers.unknown.inc_by(judged.unknown as u64);
        self.numbers.answered(match (judged.response.allowed, judged.unknown, judged.moved) {
            (false, ..) => "refused",
            (true, 1.., _) => "warned",
            (true, 0, 1..) => "moved",
            (true, 0, 0) => "unchanged",
        });
        match answered(judged.response) {
            Ok(answer) => (Extension(Door("webhook")), Json(answer)).into_response(),
            Err(cause) => {
                tracing::error!("an answer cannot be written: {cause}");
                axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// The answer as JSON. The patch is base64, as the API has it; kube writes it as a list of numbers,
/// which Go reads as well, at four times the length.
fn answered(mut response: AdmissionResponse) -> serde_json::Result<Value> {
    let patch = response.patch.clone().map(ByteString).map(serde_json::to_value).transpose()?;
    response.patch = None;
    let mut answer = serde_json::to_value(response.into_review())?;
    if let Some(patch) = patch {
        answer["response"]["patch"] = patch;
    }
    Ok(answer)
}

fn read(body: &[u8]) -> Result<AdmissionRequest<Pod>, String> {
    let review: AdmissionReview<Pod> =
        serde_json::from_slice(body).map_err(|cause| format!("no AdmissionReview: {cause}"))?;
    let request: AdmissionRequest<Pod> =
        review.try_into().map_err(|_| "the AdmissionReview asks nothing".to_owned())?;
    if request.types.api_version != "admission.k8s.io/v1" {
        return Err(format!(
            "{} is not known, only admission.k8s.io/v1",
            request.types.api_version
        ));
    }
    if request.resource.resource != "pods" || !request.resource.group.is_empty() {
        return Err(format!("{} are not judged, only pods", request.resource.resource));
    }
    Ok(request)
}
