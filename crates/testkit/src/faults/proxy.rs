//! The proxy itself: hyper to the client, reqwest to the server, and the body between them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::wire_fault::{FaultProxyState, SeenRequest, WireFault};

/// What hyper may hold back from the socket, so that the count of bytes sent is close to the truth.
const WRITE_BUFFER: usize = 64 << 10;
/// Time for what was sent before a cut to leave; on loopback it is there at once.
const FLUSH: Duration = Duration::from_millis(20);
/// A slow body comes in so many pieces a second.
const SLOW_PIECES: u64 = 20;

type ProxyBody = UnsyncBoxBody<Bytes, io::Error>;

/// Starts to listen, and serves on the current runtime for as long as that lives.
pub(crate) async fn listen_on_loopback(state: Arc<FaultProxyState>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a listener has an address");
    let client = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        // A test's authority is not known here, and what is tested is the other side.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .expect("a client can be made");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve_connection(socket, Arc::clone(&state), client.clone()));
        }
    });
    address
}

async fn serve_connection(socket: TcpStream, state: Arc<FaultProxyState>, client: reqwest::Client) {
    // Without it every small answer waits for the client's delayed acknowledgement.
    let _ = socket.set_nodelay(true);
    let service = service_fn(|request| answer_request(request, Arc::clone(&state), client.clone()));
    // An error is a client that went away, or a fault that was asked for.
    let _ = hyper::server::conn::http1::Builder::new()
        .max_buf_size(WRITE_BUFFER)
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// An error closes the connection without an answer.
async fn answer_request(
    request: http::Request<Incoming>,
    state: Arc<FaultProxyState>,
    client: reqwest::Client,
) -> Result<Response<ProxyBody>, io::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let number = record_request(&state, &request, &path);

    let early = |fault: &WireFault| matches!(fault, WireFault::Status { .. } | WireFault::Drop);
    if let Some(fault) = state.take_fault(&path, early) {
        if matches!(fault, WireFault::Status { .. }) {
            // A client that is still sending would see a broken connection, not the answer.
            let mut body = request.into_body();
            while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
        }
        return refuse_request(&state, number, fault);
    }

    let method = request.method().clone();
    let response = match forward_request(request, &state, number, &path, &client).await {
        Ok(response) => response,
        Err(error) => return Ok(text_response(StatusCode::BAD_GATEWAY, &error.to_string())),
    };
    let status = response.status();
    let length = response.content_length();
    let fault = if method == Method::GET && status.is_success() {
        state.take_fault(&path, |fault| is_body_fault(fault, length))
    } else {
        None
    };
    update_request(&state, number, |request| {
        request.status = Some(status.as_u16());
        request.fault = fault;
    });

    let mut answer = Response::new(());
    *answer.status_mut() = status;
    *answer.headers_mut() = end_to_end_headers(response.headers());
    let bytes = response.bytes_stream().map(|piece| piece.map_err(io::Error::other)).boxed();
    let bytes = count_bytes(apply_body_fault(bytes, fault), state, number);
    let body = StreamBody::new(bytes.map(|piece| piece.map(Frame::data)));
    Ok(answer.map(|()| body.boxed_unsync()))
}

async fn forward_request(
    request: http::Request<Incoming>,
    state: &Arc<FaultProxyState>,
    number: usize,
    path: &str,
    client: &reqwest::Client,
) -> reqwest::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let upstream = &state.upstream;
    let counted = Arc::clone(state);
    let body = body.map_frame(move |frame| {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        update_request(&counted, number, |request| request.received += length);
        frame
    });
    client
        .request(parts.method, format!("{upstream}{path}"))
        // With the client's `Host`, so that addresses that the server makes lead through here.
        .headers(end_to_end_headers(&parts.headers))
        .body(reqwest::Body::wrap(body))
        .send()
        .await
}

fn refuse_request(
    state: &FaultProxyState,
    number: usize,
    fault: WireFault,
) -> Result<Response<ProxyBody>, io::Error> {
    let WireFault::Status { code, retry_after } = fault else {
        update_request(state, number, |request| request.fault = Some(fault));
        return Err(io::Error::other("dropped, as asked for"));
    };
    update_request(state, number, |request| {
        request.fault = Some(fault);
        request.status = Some(code);
    });
    let status = StatusCode::from_u16(code).expect("a fault's status is a valid one");
    let mut response = text_response(status, "a fault that was asked for");
    if let Some(time) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, time.as_secs().into());
    }
    Ok(response)
}

fn is_body_fault(fault: &WireFault, length: Option<u64>) -> bool {
    let length = length.unwrap_or(u64::MAX);
    match fault {
        WireFault::Cut { after } | WireFault::Stall { after } => *after < length,
        WireFault::Flip { at } => *at < length,
        WireFault::Slow { .. } => true,
        WireFault::Status { .. } | WireFault::Drop => false,
    }
}

type BodyStream = BoxStream<'static, io::Result<Bytes>>;

/// The body as its fault leaves it.
fn apply_body_fault(body: BodyStream, fault: Option<WireFault>) -> BodyStream {
    match fault {
        Some(WireFault::Cut { after }) => {
            let cut = stream::once(async {
                tokio::time::sleep(FLUSH).await;
                Err(io::Error::other("cut, as asked for"))
            });
            take_first_bytes(body, after).chain(cut).boxed()
        }
        Some(WireFault::Stall { after }) => {
            take_first_bytes(body, after).chain(stream::once(future::pending())).boxed()
        }
        Some(WireFault::Flip { at }) => with_offsets(body)
            .map(move |(place, piece)| piece.map(|piece| flip_byte(piece, place, at)))
            .boxed(),
        Some(WireFault::Slow { bytes_per_second }) => slow_down(body, bytes_per_second),
        Some(WireFault::Status { .. } | WireFault::Drop) | None => body,
    }
}

fn take_first_bytes(body: BodyStream, bytes: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    with_offsets(body).take_while(move |(place, _)| future::ready(*place < bytes)).map(
        move |(place, piece)| {
            piece.map(|mut piece| {
                let left = usize::try_from(bytes - place).unwrap_or(usize::MAX);
                piece.truncate(left);
                piece
            })
        },
    )
}

/// Each piece with its place in the body.
fn with_offsets(body: BodyStream) -> impl Stream<Item = (u64, io::Result<Bytes>)> + Send {
    let mut next = 0;
    body.map(move |piece| {
        let place = next;
        next += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        (place, piece)
    })
}

fn flip_byte(piece: Bytes, place: u64, at: u64) -> Bytes {
    let Some(index) = at.checked_sub(place).filter(|index| *index < piece.len() as u64) else {
        return piece;
    };
    let mut bytes = BytesMut::from(piece);
    bytes[usize::try_from(index).expect("an index in memory")] ^= 1;
    bytes.freeze()
}

fn slow_down(body: BodyStream, bytes_per_second: u64) -> BodyStream {
    let size = usize::try_from(bytes_per_second / SLOW_PIECES).unwrap_or(usize::MAX).max(1);
    body.flat_map(move |piece| {
        let pieces: Vec<io::Result<Bytes>> = match piece {
            Ok(piece) => (0..piece.len())
                .step_by(size)
                .map(|start| Ok(piece.slice(start..piece.len().min(start + size))))
                .collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(pieces)
    })
    .then(|piece| async {
        tokio::time::sleep(Duration::from_millis(1000 / SLOW_PIECES)).await;
        piece
    })
    .boxed()
}

fn count_bytes(
    body: BodyStream,
    state: Arc<FaultProxyState>,
    number: usize,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    body.inspect(move |piece| {
        if let Ok(piece) = piece {
            update_request(&state, number, |request| request.sent += piece.len() as u64);
        }
    })
}

fn record_request(state: &FaultProxyState, request: &http::Request<Incoming>, path: &str) -> usize {
    let headers = request.headers();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let mut requests = state.requests();
    requests.push(SeenRequest {
        method: request.method().to_string(),
        path: path.to_owned(),
        range: range.map(String::from),
        is_authorized: headers.contains_key(header::AUTHORIZATION),
        status: None,
        fault: None,
        sent: 0,
        received: 0,
    });
    requests.len() - 1
}

/// A request that was forgotten meanwhile stays so.
fn update_request(state: &FaultProxyState, number: usize, change: impl FnOnce(&mut SeenRequest)) {
    if let Some(request) = state.requests().get_mut(number) {
        change(request);
    }
}

/// The headers without those of one connection (RFC 9110, section 7.6.1).
fn end_to_end_headers(headers: &HeaderMap) -> HeaderMap {
    let hop: [HeaderName; 4] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::TE,
        HeaderName::from_static("keep-alive"),
    ];
    let kept = headers.iter().filter(|(name, _)| !hop.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn text_response(status: StatusCode, text: &str) -> Response<ProxyBody> {
    let body = Full::new(Bytes::from(text.to_owned()));
    let body = body.map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}
