//! The HTTP server that all of Gantry's daemons use: it listens, does TLS, limits connections and
//! times, logs and counts requests, and shuts down gracefully. Callers pass the axum router to serve.

mod connection_stream;
mod connections;
mod limits;
mod observe;
mod readiness;
mod tls;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware;
use axum::routing::get;
use http::StatusCode;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use self::connection_stream::ConnectionStream;
use self::connections::{ConnectionTable, OpenConnection};
use self::observe::ServerMetrics;
use self::turns::WatchedBody;
use crate::{Error, Result};

pub use self::limits::ServerLimits;
pub use self::observe::EndpointName;
pub use self::readiness::{AlwaysReady, Readiness, ReadinessProbe};
pub use self::tls::TlsFiles;

/// Concurrent requests on one HTTP/2 connection; an image has fewer layers (overlayfs: 127 at most).
const MAX_STREAMS: u32 = 128;
/// Pings find clients that vanished without closing the connection.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest time until a response begins; its body may take any time.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// The wait after an error of `accept`, such as no free file handle: without it the loop would use a
/// whole core until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a response that wait in this process for the client, of each of hyper's, rustls' and HTTP/2's
/// buffers. A client that reads nothing costs these and one chunk of the body.
const SEND_BUFFER: usize = 32 << 10;
/// Bytes that the kernel takes before they can be sent. What is on its way to the client does not count,
/// so this does not slow down long lines. (tcp(7), `TCP_NOTSENT_LOWAT`)
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 64 << 10;

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

/// What a server serves, and within which limits.
pub struct HttpService {
    /// The routes; `/healthz`, `/readyz` and `/metrics` are added to them.
    pub router: Router,
    /// Metrics that are answered at `/metrics` beside the server's own.
    pub metrics: Registry,
    /// What `/readyz` asks.
    pub readiness: Arc<dyn ReadinessProbe>,
    /// The limits of connections and requests.
    pub limits: ServerLimits,
}

impl HttpService {
    /// A service without metrics of its own that is ready as soon as it answers, within the usual limits.
    pub fn new(router: Router) -> Self {
        Self {
            router,
            metrics: Registry::default(),
            readiness: Arc::new(AlwaysReady),
            limits: ServerLimits::default(),
        }
    }
}

/// Listens and serves `router` until [`RunningServer::drain_requests`], together with `/healthz`,
/// `/readyz` and `/metrics`.
pub async fn start_server(config: &ListenConfig, router: Router) -> Result<RunningServer> {
    start_service(config, HttpService::new(router)).await
}

/// As [`start_server`], with metrics, a readiness check and limits.
pub async fn start_service(config: &ListenConfig, service: HttpService) -> Result<RunningServer> {
    let tls = config.tls.as_ref().map(tls::build_acceptor).transpose()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.into(),
    })?;
    let address = listener.local_addr().map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.into(),
    })?;
    let HttpService { router, metrics, readiness, mut limits } = service;
    limits.fit_to_system();
    let metrics = ServerMetrics::new(metrics);
    let table = Arc::new(ConnectionTable::new(limits));
    let router = wrap_router(router, &metrics, readiness, &table);
    let (stop, stopped) = watch::channel(false);
    let cut = CancellationToken::new();
    let acceptor = ConnectionAcceptor { tls, router, metrics, table, cut: cut.clone() };
    let done = tokio::spawn(acceptor.accept_connections(listener, stopped));
    Ok(RunningServer { address, stop, cut, done })
}

/// Adds what every server of ours has: timeout, handling of panics, turns, access log and metrics. The
/// layer that is added last sees a request first.
fn wrap_router(
    router: Router,
    metrics: &ServerMetrics,
    readiness: Arc<dyn ReadinessProbe>,
    table: &Arc<ConnectionTable>,
) -> Router {
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIMEOUT);
    let observed = router
        .layer(timeout)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(Arc::clone(table), turns::wait_for_turn))
        .layer(middleware::from_fn_with_state(metrics.clone(), observe::observe_request));
    // Probes come every few seconds: they are neither logged nor counted, and need no turn.
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness::answer_readiness).with_state(readiness))
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
    router: Router,
    metrics: ServerMetrics,
    table: Arc<ConnectionTable>,
    cut: CancellationToken,
}

impl ConnectionAcceptor {
    async fn accept_connections(self, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // Also when the sender was dropped.
                _ = stopped.changed() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.table.admit_connection(peer.ip()) else {
                self.metrics.count_refused_connection();
                tracing::debug!(%peer, "connection refused: all others are busy");
                continue;
            };
            set_socket_options(&stream);
            let (acceptor, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                let _open = acceptor.metrics.count_connection();
                let connection = &place.connection;
                let served = tokio::select! {
                    served = acceptor.serve_connection(stream, connection, watcher) => served,
                    reason = acceptor.table.watch_connection(connection) => Err(reason.to_owned()),
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

    async fn serve_connection(
        &self,
        stream: TcpStream,
        connection: &Arc<OpenConnection>,
        watcher: Watcher,
    ) -> Result<(), String> {
        let stream = ConnectionStream::new(stream, Arc::clone(connection));
        let Some(tls) = &self.tls else {
            return self.serve_http(stream, connection, watcher).await;
        };
        let patience = self.table.limits().handshake;
        match tokio::time::timeout(patience, tls.accept(stream)).await {
            Ok(Ok(mut stream)) => {
                stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
                // The bytes of the handshake are not those of a request.
                connection.begin_waiting();
                self.serve_http(stream, connection, watcher).await
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the TLS handshake took too long".to_owned()),
        }
    }

    async fn serve_http<S>(
        &self,
        stream: S,
        connection: &Arc<OpenConnection>,
        watcher: Watcher,
    ) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // No timeouts of hyper's: they begin after the first bytes, and the table's watch has all.
        builder.http1().header_read_timeout(None).max_buf_size(SEND_BUFFER);
        builder
            .http2()
            // hyper has no clock of its own.
            .timer(TokioTimer::new())
            .max_concurrent_streams(Some(MAX_STREAMS))
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Some(PING_INTERVAL))
            .keep_alive_timeout(PING_TIMEOUT);
        let (router, connection) = (self.router.clone(), Arc::clone(connection));
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let (router, connection) = (router.clone(), Arc::clone(&connection));
            let guard = connection.begin_request();
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(connection);
                let response = router.oneshot(request).await?;
                Ok::<_, std::convert::Infallible>(
                    response.map(|inner| Body::new(WatchedBody::new(inner, guard))),
                )
            }
        });
        let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        watcher.watch(served).await.map_err(|error| error.to_string())
    }
}

fn set_socket_options(stream: &TcpStream) {
    // Without Nagle's algorithm: small responses (manifests) would wait for the client's delayed
    // acknowledgement, 40 ms on Linux.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}
