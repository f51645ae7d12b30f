//! The access log and the metrics of requests. Both are written when the last byte of a response was
//! sent or its client has gone, so that the numbers of bytes are the real ones.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The endpoint (protocol) of a server that handled a request, such as `oci` or `hub`. Handlers add it
/// to their responses as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointName(pub &'static str);

/// The endpoint of a response that names none.
const OTHER: EndpointName = EndpointName("other");

/// The buckets of the latency histogram, in seconds: from a read from memory to a disk that has to spin
/// up.
const LATENCIES: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

/// The metrics of one server; clones share them.
#[derive(Clone)]
pub(super) struct ServerMetrics {
    registry: Arc<Registry>,
    /// The metrics that the caller registered.
    more: Arc<Registry>,
    requests: Family<StatusLabels, Counter>,
    bytes: Family<EndpointLabels, Counter>,
    latency: Family<EndpointLabels, Histogram>,
    in_flight: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    refused: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    endpoint: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
}

impl ServerMetrics {
    pub(super) fn new(more: Registry) -> Self {
        let mut registry = Registry::with_prefix("gantry_http");
        let requests = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        let bytes = Family::default();
        let help = "Bytes of response bodies sent";
        registry.register_with_unit("sent", help, Unit::Bytes, bytes.clone());
        let latency = Family::new_with_constructor((|| Histogram::new(LATENCIES)) as fn() -> _);
        let help = "Time until a response begins";
        registry.register_with_unit("latency", help, Unit::Seconds, latency.clone());
        let in_flight = Gauge::default();
        registry.register("in_flight", "Requests being answered", in_flight.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let refused = Counter::default();
        let help = "Connections closed at once, since all others were busy";
        registry.register("connections_refused", help, refused.clone());
        Self {
            registry: Arc::new(registry),
            more: Arc::new(more),
            requests,
            bytes,
            latency,
            in_flight,
            connections,
            refused,
        }
    }

    pub(super) fn count_refused_connection(&self) {
        self.refused.inc();
    }

    /// Counts a connection for as long as the result lives.
    pub(super) fn count_connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }
}

/// Adds one to a gauge for as long as it lives, however the connection or request ends.
pub(super) struct GaugeGuard(Gauge<i64, AtomicI64>);

impl GaugeGuard {
    fn new(gauge: &Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts and logs a request, its body included.
pub(super) async fn observe_request(
    State(metrics): State<ServerMetrics>,
    request: Request,
    next: Next,
) -> Response {
    let mut seen = RequestRecord {
        method: request.method().clone(),
        // Without the query, which may contain a token or a signature.
        path: request.uri().path().to_owned(),
        started: Instant::now(),
        // Logged if the client disconnects before there is a response, as nginx does.
        status: 499,
        endpoint: OTHER,
        sent: 0,
        _in_flight: GaugeGuard::new(&metrics.in_flight),
        metrics,
    };
    let response = next.run(request).await;
    seen.status = response.status().as_u16();
    seen.endpoint = response.extensions().get::<EndpointName>().copied().unwrap_or(OTHER);
    let at = EndpointLabels { endpoint: seen.endpoint.0 };
    seen.metrics.latency.get_or_create(&at).observe(seen.started.elapsed().as_secs_f64());
    // The record goes with the body: it is logged when the body is dropped, sent or not.
    response.map(|inner| Body::new(CountedBody { inner, seen }))
}

/// `GET /metrics`: OpenMetrics 1.0, which Prometheus reads.
pub(super) async fn render_metrics(State(metrics): State<ServerMetrics>) -> Response {
    let mut text = String::new();
    let encoded = encode_registry(&mut text, &metrics.registry)
        // Two registries make one document: `# EOF` may come once only, at its end.
        .and_then(|()| encode_registry(&mut text, &metrics.more))
        .and_then(|()| encode_eof(&mut text));
    if encoded.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What is known of a request; logged and counted when it is dropped.
struct RequestRecord {
    metrics: ServerMetrics,
    method: Method,
    path: String,
    started: Instant,
    status: u16,
    endpoint: EndpointName,
    sent: u64,
    _in_flight: GaugeGuard,
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let Self { method, path, status, sent, endpoint, .. } = self;
        self.metrics
            .requests
            .get_or_create(&StatusLabels { endpoint: endpoint.0, status: *status })
            .inc();
        self.metrics.bytes.get_or_create(&EndpointLabels { endpoint: endpoint.0 }).inc_by(*sent);
        let milliseconds = self.started.elapsed().as_millis();
        tracing::info!(target: "access", "{method} {path} {status} {sent} {milliseconds}ms");
    }
}

/// A response body whose bytes are counted while they are sent.
struct CountedBody {
    inner: Body,
    seen: RequestRecord,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.seen.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
