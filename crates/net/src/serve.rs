//! The one server shell: listens, speaks TLS, limits, logs, counts, and drains. What is served is
//! an axum router that somebody hands in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::{Error, Result};

/// Connections at once; each holds a socket and some buffers.
const MAX_CONNECTIONS: usize = 1024;
/// A client that does not finish its headers in this time holds a connection for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS handshake that takes longer will not be made.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
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

/// A server's certificate chain and its key, PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A server that runs.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    done: tokio::task::JoinHandle<()>,
}

/// What was served, for `/metrics`.
#[derive(Debug, Default)]
struct Counters {
    /// By class of status: 1xx to 5xx.
    requests: [AtomicU64; 5],
    in_flight: AtomicU64,
    connections: AtomicU64,
    bytes: AtomicU64,
}

/// Listens and serves `router` until [`Running::drain`]. `/healthz`, `/readyz` and `/metrics` are
/// answered beside it.
pub async fn start(config: &Config, router: Router) -> Result<Running> {
    let tls = config.tls.as_ref().map(acceptor).transpose()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.to_string(),
    })?;
    let address = listener.local_addr().map_err(|cause| Error::Setup {
        what: format!("cannot listen on {}", config.listen),
        cause: cause.to_string(),
    })?;
    let counters = Arc::new(Counters::default());
    let house = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&counters));
    let service =
        router.layer(middleware::from_fn_with_state(Arc::clone(&counters), observe)).merge(house);
    let (stop, stopped) = watch::channel(false);
    let done = tokio::spawn(accept(listener, tls, service, counters, stopped));
    Ok(Running { address, stop, done })
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
            done.abort();
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Router,
    counters: Arc<Counters>,
    mut stopped: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
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
        // Small answers (manifests) must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let watcher = graceful.watcher();
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            let _place = place;
            let served = match tls {
                None => connection(stream, service, watcher).await,
                Some(tls) => {
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, service, watcher).await,
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err("the TLS handshake took too long".to_owned()),
                    }
                }
            };
            if let Err(error) = served {
                tracing::debug!(%peer, "connection ended: {error}");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn connection<S>(
    stream: S,
    service: Router,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(Some(256));
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    watcher.watch(connection).await.map_err(|error| error.to_string())
}

/// Counts and logs a request.
async fn observe(State(counters): State<Arc<Counters>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    counters.in_flight.fetch_add(1, Ordering::Relaxed);
    let response = next.run(request).await;
    counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    let status = response.status();
    let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
    counters.requests[class].fetch_add(1, Ordering::Relaxed);
    let length = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or_default();
    if method != http::Method::HEAD {
        counters.bytes.fetch_add(length, Ordering::Relaxed);
    }
    let milliseconds = started.elapsed().as_millis();
    tracing::info!(target: "access", "{method} {path} {} {length} {milliseconds}ms", status.as_u16());
    response
}

/// Prometheus' text format (exposition format 0.0.4).
async fn metrics(State(counters): State<Arc<Counters>>) -> Response {
    use std::fmt::Write;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let requests: Vec<_> = counters
        .requests
        .iter()
        .enumerate()
        .map(|(class, count)| (format!("{{code=\"{}xx\"}}", class + 1), load(count)))
        .collect();
    family("gantry_http_requests_total", "counter", "Requests answered.", &requests);
    let one = |value: &AtomicU64| [(String::new(), load(value))];
    family("gantry_http_in_flight", "gauge", "Requests being answered.", &one(&counters.in_flight));
    family("gantry_http_connections_total", "counter", "Connections.", &one(&counters.connections));
    family("gantry_http_sent_bytes_total", "counter", "Bytes of bodies.", &one(&counters.bytes));
    (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let unusable = |path: &PathBuf, reason: String| Error::Tls { path: path.clone(), reason };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unusable(&files.certificate, cause.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(&files.certificate, "it has no PEM certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|cause| unusable(&files.key, cause.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(&files.certificate, cause.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|cause| unusable(&files.certificate, cause.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
