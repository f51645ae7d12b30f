//! The HTTP server, with clients that behave and clients that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{client, content, hasty};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use gantry_net::serve::{EndpointName, ListenConfig, RunningServer, TlsFiles, start_server};
use gantry_net::{Error, HttpRequest, RepeatPolicy};
use http::Version;
use tokio::sync::Notify;

async fn plain(router: Router) -> RunningServer {
    start_server(&ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: None }, router)
        .await
        .unwrap()
}

async fn fetch(running: &RunningServer, path: &str) -> (u16, String) {
    let request = HttpRequest::get(&format!("http://{}{path}", running.address())).unwrap();
    let client = hasty()
        .retry(gantry_net::RetryPolicy { attempts: 1, ..Default::default() })
        .build()
        .unwrap();
    match client.send(&request, RepeatPolicy::Never).await {
        Ok(response) => {
            let status = response.status().as_u16();
            let body = response.read_bytes(1 << 20).await.unwrap();
            (status, String::from_utf8_lossy(&body).into_owned())
        }
        Err(error) => (0, error.to_string()),
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_lives_on() {
    async fn broken() -> Response {
        panic!("a bug")
    }
    let running = plain(Router::new().route("/bug", get(broken))).await;

    let (_, said) = fetch(&running, "/bug").await;

    assert!(said.contains("500"), "{said}");
    assert_eq!(fetch(&running, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(fetch(&running, "/readyz").await.0, 200);
}

#[tokio::test]
async fn what_was_served_is_counted_by_door() {
    let router = Router::new().route(
        "/blob",
        get(|| async { (Extension(EndpointName("oci")), "12345").into_response() }),
    );
    let running = plain(router).await;

    for _ in 0..3 {
        fetch(&running, "/blob").await;
    }
    fetch(&running, "/nothing").await;
    let (_, text) = fetch(&running, "/metrics").await;

    for line in [
        r#"gantry_http_requests_total{endpoint="oci",status="200"} 3"#,
        r#"gantry_http_requests_total{endpoint="other",status="404"} 1"#,
        r#"gantry_http_sent_bytes_total{endpoint="oci"} 15"#,
        r#"gantry_http_latency_seconds_count{endpoint="oci"} 3"#,
        "gantry_http_in_flight 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn tls_speaks_http_2_and_1() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), testkit::TestAuthority::new());
    let files = authority.issue_server_certificate(folder.path());
    let tls = TlsFiles { certificate: files.certificate, key: files.key };
    let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: Some(tls) };
    let router = Router::new()
        .route("/version", get(|version: Version| async move { format!("{version:?}") }));
    let running = start_server(&config, router).await.unwrap();
    let url = format!("https://localhost:{}/version", running.address().port());

    let ours = hasty().ca_files([authority.ca_file()]).build().unwrap();
    let answered = ours.send(&HttpRequest::get(&url).unwrap(), RepeatPolicy::Safe).await.unwrap();
    let curl = tokio::task::spawn_blocking(move || {
        let ca = authority.ca_file();
        let mut curl = testkit::tools::tool_command("curl");
        testkit::tools::run_command(curl.args(["-s", "--http1.1", "--cacert"]).arg(ca).arg(url))
    });

    assert_eq!(answered.read_bytes(100).await.unwrap(), "HTTP/2.0");
    assert_eq!(curl.await.unwrap(), "HTTP/1.1");
}

#[tokio::test]
async fn an_unusable_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, "no PEM").unwrap();
    let tls = TlsFiles { certificate, key };
    let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: Some(tls) };

    let error = start_server(&config, Router::new()).await.err().unwrap();

    assert!(matches!(&error, Error::Tls { path, .. } if path.ends_with("tls.crt")), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let running = plain(Router::new()).await;

    let config = ListenConfig { listen: running.address(), tls: None };
    let error = start_server(&config, Router::new()).await.err().unwrap();

    assert!(error.to_string().contains(&running.address().to_string()), "{error}");
}

#[tokio::test]
async fn a_drain_lets_a_request_finish() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = |State((entered, leave)): State<(Arc<Notify>, Arc<Notify>)>| async move {
        entered.notify_one();
        leave.notified().await;
        "done"
    };
    let state = (Arc::clone(&entered), Arc::clone(&leave));
    let running = plain(Router::new().route("/slow", get(slow)).with_state(state)).await;
    let address = running.address();
    let request = HttpRequest::get(&format!("http://{address}/slow")).unwrap();
    let client = gantry_net::Client::builder().build().unwrap();
    let asked = tokio::spawn(async move { client.send(&request, RepeatPolicy::Never).await });
    entered.notified().await;

    let drained = tokio::spawn(running.drain_requests(Duration::from_secs(10)));
    while TcpStream::connect(address).is_ok() {
        tokio::task::yield_now().await;
    }
    leave.notify_one();

    assert_eq!(asked.await.unwrap().unwrap().read_bytes(10).await.unwrap(), "done");
    drained.await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_even_with_a_client_that_does_not() {
    let router = Router::new().route(
        "/endless",
        get(|| async {
            let zeros = || Ok::<_, std::io::Error>(vec![0_u8; 1 << 16]);
            Body::from_stream(futures::stream::repeat_with(zeros))
        }),
    );
    let running = plain(router).await;
    let address = running.address();
    let stream = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        // From here on the request is under way.
        stream.read_exact(&mut [0]).unwrap();
        stream
    });
    let mut stream = stream.await.unwrap();

    let started = Instant::now();
    running.drain_requests(Duration::from_millis(50)).await;

    assert!(started.elapsed() < Duration::from_mins(1));
    let mut rest = Vec::new();
    // The connection ends, in whatever way.
    let _ = stream.read_to_end(&mut rest);
}

#[tokio::test]
async fn a_body_out_of_a_reader_arrives_whole() {
    let router = Router::new().route(
        "/blob",
        get(|| async {
            Body::from_stream(gantry_net::body::stream_reader(
                gantry_net::body::ReadAhead::OnceTaken,
                || Ok(std::io::Cursor::new(content(3_000_001))),
            ))
        }),
    );
    let running = plain(router).await;
    let request = HttpRequest::get(&format!("http://{}/blob", running.address())).unwrap();

    let response = client().send(&request, RepeatPolicy::Safe).await.unwrap();

    assert!(response.read_bytes(4_000_000).await.unwrap() == content(3_000_001));
}
