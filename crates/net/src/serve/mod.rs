//! The one server shell: listens, speaks TLS, limits, logs, counts, and drains. What is served is
//! an axum router that somebody hands in.

mod impatient;
mod observe;
mod tls;

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

use self::impatient::Impatient;
use self::observe::Metrics;
use crate::{Error, Result};

pub use self::observe::Door;
pub use self::tls::TlsFiles;

/// Connections at once; each holds a socket and some buffers.
const MAX_CONNECTIONS: usize = 1024;
/// Requests at once on one connection of HTTP/2; an image has fewer layers (127 at most).
const MAX_STREAMS: u32 = 256;
/// A client that does not finish its headers, or asks nothing more, in this time holds a connection
/// for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS handshake that takes longer will not be made.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes no byte for so long is gone. Clients that unpack while they pull can pause
/// for a while.
const WRITE_TIMEOUT: Duration = Duration::from_mins(5);
/// An answer that has not begun in this time will not come; only the body may take any time.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// After an error of `accept` (no file handles left) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server listens.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Certificate and key, PEM files; plain HTTP without.
    pub tls: Option<TlsFiles>,
}

/// A server that runs.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    cut: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

/// Listens and serves `router` until [`Running::drain`]. `/healthz`, `/readyz` and `/metrics` are
/// answered beside it.
pub async fn start(config: &Config, router: Router) -> Result<Running> {
    start_with(config, router, Registry::default()).await
}

/// As [`start`], with more numbers on `/metrics`.
pub async fn start_with(config: &Config, router: Router, more: Registry) -> Result<Running> {
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.to_string(),
    })?;
    let address = listener.local_addr().map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.to_string(),
    })?;
    let metrics = Metrics::new(more);
    let service = service(router, &metrics);
    let (stop, stopped) = watch::channel(false);
    let cut = CancellationToken::new();
    let door = FrontDoor { tls, service, metrics, cut: cut.clone() };
    let done = tokio::spawn(door.accept(listener, stopped));
    Ok(Running { address, stop, cut, done })
}

/// The router with all that every server of ours has around it, outermost last.
fn service(router: Router, metrics: &Metrics) -> Router {
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIMEOUT);
    let observed = router
        .layer(timeout)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(metrics.clone(), observe::observe));
    // Those who only ask whether we live are neither logged nor counted.
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(observe::metrics))
        .with_state(metrics.clone())
        // Not merged: layers of a merged router miss what none of its routes takes.
        .fallback_service(observed)
}

impl Running {
    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets requests under way finish until the deadline, then ends.
    pub async fn drain(self, deadline: Duration) {
        let _ = self.stop.send(true);
        let mut done = self.done;
        if tokio::time::timeout(deadline, &mut done).await.is_err() {
            tracing::warn!("some requests were still under way when the server stopped");
            self.cut.cancel();
            // What is cut ends at once.
            let _ = done.await;
        }
    }
}

/// What every connection gets.
#[derive(Clone)]
struct FrontDoor {
    tls: Option<TlsAcceptor>,
    service: Router,
    metrics: Metrics,
    cut: CancellationToken,
}

impl FrontDoor {
    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = next(&listener, &places) => accepted,
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
            // Small answers (manifests) must not wait for an acknowledgement.
            let _ = stream.set_nodelay(true);
            let (door, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                let _open = (place, door.metrics.connection());
                let served = tokio::select! {
                    served = door.serve(stream, watcher) => served,
                    () = door.cut.cancelled() => Err("cut at the end of the drain".to_owned()),
                };
                if let Err(error) = served {
                    tracing::debug!(%peer, "connection ended: {error}");
                }
            });
        }
        drop(listener);
        graceful.shutdown().await;
    }

    async fn serve(&self, stream: TcpStream, watcher: Watcher) -> Result<(), String> {
        let stream = Impatient::new(stream, WRITE_TIMEOUT);
        let Some(tls) = &self.tls else { return self.connection(stream, watcher).await };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.connection(stream, watcher).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the TLS handshake took too long".to_owned()),
        }
    }

    async fn connection<S>(&self, stream: S, watcher: Watcher) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(Some(MAX_STREAMS))
            .keep_alive_interval(Some(HEADER_TIMEOUT))
            .keep_alive_timeout(HANDSHAKE_TIMEOUT);
        let service = TowerToHyperService::new(self.service.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        watcher.watch(connection).await.map_err(|error| error.to_string())
    }
}

/// The next connection, once there is a place for it; until then it waits in the kernel's queue.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}
