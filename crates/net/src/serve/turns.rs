//! The turns of requests: how many are answered at the same time, of all clients and of one. A request
//! beyond that waits for a while, and is then answered 503 with the time after which to try again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connections::{ConnectionTable, OpenConnection, RequestGuard};

/// What a client is told to wait after a 503, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Answers a request when it has its turn. The turn ends with the response's body.
pub(super) async fn wait_for_turn(
    State(table): State<Arc<ConnectionTable>>,
    request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<Arc<OpenConnection>>().cloned();
    let Some(turn) = take_turn(&table, connection.as_deref()).await else {
        let text = "too many requests are being answered; try again in a few seconds\n";
        let headers = [(header::RETRY_AFTER, RETRY_AFTER)];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response();
    };
    let response = next.run(request).await;
    response.map(|inner| Body::new(HeldBody { inner, _turn: turn }))
}

/// The turn of one request, of all clients' and its client's.
struct RequestTurn {
    _of_client: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

async fn take_turn(
    table: &ConnectionTable,
    connection: Option<&OpenConnection>,
) -> Option<RequestTurn> {
    let of_client = connection.map(|connection| Arc::clone(&connection.client_turns));
    let take = async {
        let client_permit = match of_client {
            Some(turns) => Some(take_permit(table, turns).await?),
            None => None,
        };
        let permit = take_permit(table, Arc::clone(&table.turns)).await?;
        Some(RequestTurn { _of_client: client_permit, _of_all: permit })
    };
    tokio::time::timeout(table.limits().turn, take).await.ok().flatten()
}

/// Waits for a permit, unless too many wait already.
async fn take_permit(
    table: &ConnectionTable,
    turns: Arc<Semaphore>,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(&turns).try_acquire_owned() {
        return Some(permit);
    }
    let _waiting = WaitingCount::begin_waiting(&table.waiting, table.limits().waiting_requests)?;
    turns.acquire_owned().await.ok()
}

/// Counts a request as waiting for as long as it lives.
struct WaitingCount<'a>(&'a AtomicUsize);

impl<'a> WaitingCount<'a> {
    fn begin_waiting(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let counted = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for WaitingCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response's body that holds something until it was sent.
struct HeldBody<T> {
    inner: Body,
    _turn: T,
}

impl<T: Unpin> HttpBody for HeldBody<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body that tells the state of its connection when the client takes a part of it.
pub(super) struct WatchedBody {
    inner: Body,
    guard: RequestGuard,
}

impl WatchedBody {
    pub(super) fn new(inner: Body, mut guard: RequestGuard) -> Self {
        guard.begin_body();
        Self { inner, guard }
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if frame.is_ready() {
            self.guard.record_progress();
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
