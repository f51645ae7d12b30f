//! The HTTP server that all of Gantry's daemons use: it listens, does TLS, limits connections and
//! times, logs and counts requests, and shuts down gracefully. Callers pass the axum router to serve.

mod observe;
mod tls;
mod write_timeout;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use self::observe::ServerMetrics;
use self::write_timeout::WriteTimeoutStream;
use crate::{Error, Result};

pub use self::observe::EndpointName;
pub use self::tls::TlsFiles;

/// Concurrent connections; each holds a socket and some buffers. Further clients wait in the kernel's
/// queue instead of being refused.
const MAX_CONNECTIONS: usize = 1024;
/// Concurrent requests on one HTTP/2 connection; an image has fewer layers (overlayfs: 127 at most).
const MAX_STREAMS: u32 = 256;
/// A client that does not finish its headers, or sends no further request, in this time only occupies a
/// connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time for a TLS handshake; a client that needs more does not speak TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that reads no byte for this long is gone. Not shorter: clients that unpack layers while
/// they pull can pause for a while.
const WRITE_TIMEOUT: Duration = Duration::from_mins(5);
/// The longest time until a response begins; its body may take any time.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// The wait after an error of `accept`, such as no free file handle: without it the loop would use a
/// whole core until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server listens.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// The address to listen on; with port 0 the system chooses a free port.
    pub listen: SocketAddr,
    /// The PEM files of certificate and key; HTTP without TLS when absent.
    pub tls: Option<TlsFiles>,
}

/// A running server. Dropping it stops accepting connections; current requests may finish.
pub struct RunningServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    cut: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

/// Listens and serves `router` until [`RunningServer::drain_requests`], together with `/healthz`,
/// `/readyz` and `/metrics`.
pub async fn start_server(config: &ListenConfig, router: Router) -> Result<RunningServer> {
    start_server_with_metrics(config, router, Registry::default()).await
}

/// As [`start_server`], with the metrics of `more` on `/metrics` as well.
pub async fn start_server_with_metrics(
    config: &ListenConfig,
    router: Router,
    more: Registry,
) -> Result<RunningServer> {
    let tls = config.tls.as_ref().map(tls::build_acceptor).transpose()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.into(),
    })?;
    let address = listener.local_addr().map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.into(),
    })?;
    let metrics = ServerMetrics::new(more);
    let service = wrap_router(router, &metrics);
    let (stop, stopped) = watch::channel(false);
    let cut = CancellationToken::new();
    let acceptor = ConnectionAcceptor { tls, service, metrics, cut: cut.clone() };
    let done = tokio::spawn(acceptor.accept_connections(listener, stopped));
    Ok(RunningServer { address, stop, cut, done })
}

/// Adds what every server of ours has: timeout, handling of panics, access log and metrics. The layer
/// that is added last sees a request first.
fn wrap_router(router: Router, metrics: &ServerMetrics) -> Router {
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIMEOUT);
    let observed = router
        .layer(timeout)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(metrics.clone(), observe::observe_request));
    // Probes come every few seconds: they are neither logged nor counted.
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(observe::render_metrics))
        .with_state(metrics.clone())
        // Not `merge`: a merged router's layers do not apply to requests that match no route (404).
        .fallback_service(observed)
}

impl RunningServer {
    /// The address it listens on, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shuts down gracefully: accepts no more connections, lets current requests finish until the
    /// deadline, then closes the rest.
    pub async fn drain_requests(self, deadline: Duration) {
        let _ = self.stop.send(true);
        let mut done = self.done;
        if tokio::time::timeout(deadline, &mut done).await.is_err() {
            tracing::warn!("requests that did not finish in time were closed at shutdown");
            self.cut.cancel();
            // Cancelled connections end at once.
            let _ = done.await;
        }
    }
}

/// Accepts connections, and what each of them needs.
#[derive(Clone)]
struct ConnectionAcceptor {
    tls: Option<TlsAcceptor>,
    service: Router,
    metrics: ServerMetrics,
    cut: CancellationToken,
}

impl ConnectionAcceptor {
    async fn accept_connections(self, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = accept_connection(&listener, &places) => accepted,
                // Also when the sender was dropped.
                _ = stopped.changed() => break,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without Nagle's algorithm: small responses (manifests) would wait for the client's
            // delayed acknowledgement, 40 ms on Linux.
            let _ = stream.set_nodelay(true);
            let (acceptor, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                let _open = (place, acceptor.metrics.count_connection());
                let served = tokio::select! {
                    served = acceptor.serve_connection(stream, watcher) => served,
                    () = acceptor.cut.cancelled() => Err("closed at the shutdown deadline".to_owned()),
                };
                if let Err(error) = served {
                    tracing::debug!(%peer, "connection ended: {error}");
                }
            });
        }
        // Closed first, so that clients and load balancers turn to another instance at once.
        drop(listener);
        graceful.shutdown().await;
    }

    async fn serve_connection(&self, stream: TcpStream, watcher: Watcher) -> Result<(), String> {
        let stream = WriteTimeoutStream::new(stream, WRITE_TIMEOUT);
        let Some(tls) = &self.tls else { return self.serve_http(stream, watcher).await };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve_http(stream, watcher).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the TLS handshake took too long".to_owned()),
        }
    }

    async fn serve_http<S>(&self, stream: S, watcher: Watcher) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // hyper has no clock of its own: its timeouts need a timer.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(Some(MAX_STREAMS))
            // Pings find clients that vanished without closing the connection.
            .keep_alive_interval(Some(HEADER_TIMEOUT))
            .keep_alive_timeout(HANDSHAKE_TIMEOUT);
        let service = TowerToHyperService::new(self.service.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        watcher.watch(connection).await.map_err(|error| error.to_string())
    }
}

/// The next connection, once fewer than the maximum are open; until then it waits in the kernel's
/// queue.
async fn accept_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}
