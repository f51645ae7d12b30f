//! Requests to servers that fail in every way, and to nginx.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Answer, Nginx, Scripted, answer, client, hasty, head, in_own_process};
use bytes::Bytes;
use futures::StreamExt;
use gantry_net::{Error, HttpRequest, RepeatPolicy, RequestBody};
use http::{HeaderValue, Method, header};

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let server = Scripted::start(|number, _| match number {
        0 => answer("429 Too Many", "retry-after: 1\r\n", ""),
        _ => answer("200 OK", "", "fine"),
    });
    let started = Instant::now();

    let request = HttpRequest::get(&server.url("/")).unwrap();
    let body =
        client().send(&request, RepeatPolicy::Safe).await.unwrap().read_bytes(10).await.unwrap();

    assert_eq!(body, "fine");
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_failure_is_told_with_its_history_and_without_secrets() {
    let server = Scripted::start(|number, _| match number {
        0 => answer("500 Oops", "", r#"{"error":"disk on fire"}"#),
        1 => Answer::Close(Vec::new()),
        _ => Answer::Stall(Vec::new()),
    });
    let url = server.url("/blob?signature=geheim").replace("http://", "http://me:geheim@");

    let request = HttpRequest::get(&url).unwrap();
    let error = client().send(&request, RepeatPolicy::Safe).await.unwrap_err();

    let Error::Request { attempts, .. } = &error else { panic!("{error}") };
    assert_eq!(attempts.len(), 3);
    let text = format!("{error} {error:?}");
    for part in ["GET http://127.0.0.1:", "/blob", "3 times", "disk on fire", "no answer within"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test]
async fn a_put_without_a_body_may_be_answered_late() {
    // It closes an upload, which a registry may need minutes for.
    let server = Scripted::start(|_, _| {
        std::thread::sleep(Duration::from_secs(1));
        answer("201 Created", "", "")
    });
    let client = hasty().idle_timeout(Duration::from_millis(100)).build().unwrap();

    let request = HttpRequest::new(Method::PUT, &server.url("/upload")).unwrap();
    let response = client.send(&request, RepeatPolicy::PutOff).await.unwrap();

    assert!(response.status().is_success());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_address_behind_a_redirect_stays_secret_too() {
    let server = Scripted::start(|_, request| {
        if request.starts_with("get /cdn") {
            return Answer::Close(b"garbage".to_vec());
        }
        answer("307 There", "location: /cdn?signature=geheim\r\n", "")
    });

    let request = HttpRequest::get(&server.url("/")).unwrap();
    let error = client().send(&request, RepeatPolicy::Safe).await.unwrap_err();

    assert!(!format!("{error} {error:?}").contains("geheim"), "{error:?}");
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_twice_unless_it_is_safe() {
    let server = Scripted::start(|_, _| answer("503 Busy", "", ""));
    let request = HttpRequest::new(Method::POST, &server.url("/")).unwrap();

    client().send(&request, RepeatPolicy::Never).await.unwrap_err();

    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_not_there_is_named() {
    let request = HttpRequest::get("http://127.0.0.1:1/v2/").unwrap();

    let error = client().send(&request, RepeatPolicy::Never).await.unwrap_err();

    let Error::Request { attempts, unreachable, .. } = &error else { panic!("{error}") };
    assert!(*unreachable);
    assert_eq!(attempts.len(), 3, "what never arrived may be sent again");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_credential_does_not_follow_a_redirect_to_another_host() {
    let other = Scripted::start(|_, _| answer("200 OK", "", "fine"));
    let port = other.host.rsplit_once(':').unwrap().1.to_owned();
    let first = Scripted::start(move |_, _| {
        answer("302 There", &format!("location: http://localhost:{port}/\r\n"), "")
    });
    let mut secret = HeaderValue::from_static("Bearer geheim");
    secret.set_sensitive(true);
    let request = HttpRequest::get(&first.url("/")).unwrap().header(header::AUTHORIZATION, secret);

    client().send(&request, RepeatPolicy::Safe).await.unwrap();

    assert!(first.requests()[0].contains("geheim"));
    assert!(!other.requests()[0].contains("authorization"));
}

#[tokio::test]
async fn a_secret_header_of_any_name_stays_with_its_server() {
    let other = Scripted::start(|_, _| answer("200 OK", "", "fine"));
    let port = other.host.rsplit_once(':').unwrap().1.to_owned();
    let first = Scripted::start(move |_, _| {
        answer("302 There", &format!("location: http://localhost:{port}/\r\n"), "")
    });
    let mut secret = HeaderValue::from_static("geheim");
    secret.set_sensitive(true);
    let request = HttpRequest::get(&first.url("/")).unwrap();
    let request = request.header(http::HeaderName::from_static("x-api-key"), secret);

    client().send(&request, RepeatPolicy::Safe).await.unwrap();

    assert!(first.requests()[0].contains("geheim"));
    assert!(!other.requests()[0].contains("geheim"));
}

#[tokio::test]
async fn a_secret_is_sent_without_tls_only_where_that_is_allowed() {
    let server = Scripted::start(|_, _| answer("200 OK", "", "fine"));
    // Another name of this machine, which counts as a stranger's: only 127.0.0.0/8, ::1 and localhost
    // are known to be here.
    let host = server.host.replace("127.0.0.1", "0.0.0.0");
    let mut secret = HeaderValue::from_static("Bearer geheim");
    secret.set_sensitive(true);
    let public = HttpRequest::get(&format!("http://{host}/")).unwrap();
    let with_token = public.clone().header(header::AUTHORIZATION, secret);
    let with_password = HttpRequest::get(&format!("http://me:geheim@{host}/")).unwrap();

    client().send(&public, RepeatPolicy::Safe).await.unwrap();
    for request in [&with_token, &with_password] {
        let error = client().send(request, RepeatPolicy::Safe).await.unwrap_err();
        assert!(matches!(&error, Error::PlainHttp { server } if *server == host), "{error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
    assert_eq!(server.requests().len(), 1);
    let by_host = hasty().plain_http_host(&host).build().unwrap();
    let by_address = hasty().plain_http_address(&format!("http://{host}/hub")).build().unwrap();
    for allowed in [by_host, by_address] {
        for request in [&with_token, &with_password] {
            allowed.send(request, RepeatPolicy::Safe).await.unwrap();
        }
    }
    let sent = server.requests();
    assert_eq!(sent.iter().filter(|one| one.contains("authorization: ")).count(), 4, "{sent:?}");
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends_at_once() {
    let server = Scripted::start(|_, _| answer("302 There", "location: /\r\n", ""));

    let request = HttpRequest::get(&server.url("/")).unwrap();
    let error = client().send(&request, RepeatPolicy::Safe).await.unwrap_err();

    assert!(error.to_string().contains("redirect"), "{error}");
    assert!(server.requests().len() <= 11);
}

#[tokio::test]
async fn a_small_document_is_bounded() {
    let server = Scripted::start(|_, _| {
        let chunk = format!("{:x}\r\n{}\r\n", 4096, "x".repeat(4096));
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        bytes.extend(chunk.repeat(100).bytes());
        Answer::Close(bytes)
    });

    let request = HttpRequest::get(&server.url("/")).unwrap();
    let response = client().send(&request, RepeatPolicy::Safe).await.unwrap();

    assert!(matches!(response.read_bytes(10_000).await, Err(Error::TooLarge { most: 10_000, .. })));
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_idle_time_and_is_opened_anew_for_each_try() {
    let server = Scripted::start(|number, _| match number {
        0 => answer("502 Bad", "", ""),
        _ => answer("201 Created", "", ""),
    });
    // Six pieces, one each 100 ms; the client gives up after 300 ms of silence.
    let open = || {
        futures::stream::iter(0..6)
            .then(|_| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(Bytes::from_static(b"piece."))
            })
            .boxed()
    };
    let body = RequestBody::Stream { length: 36, open: Arc::new(open) };
    let request = HttpRequest::new(Method::PUT, &server.url("/")).unwrap().body(body);

    let response = client().send(&request, RepeatPolicy::Safe).await.unwrap();

    assert_eq!(response.status(), 201);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].ends_with(&"piece.".repeat(6)), "{}", requests[1]);
    assert!(!requests[1].contains("chunked"), "{}", requests[1]);
}

#[tokio::test]
async fn an_upload_that_gets_stuck_is_given_up() {
    let server = Scripted::start(|_, _| answer("201 Created", "", ""));
    let body =
        RequestBody::Stream { length: 36, open: Arc::new(|| futures::stream::pending().boxed()) };
    let request = HttpRequest::new(Method::PUT, &server.url("/")).unwrap().body(body);

    let error = client().send(&request, RepeatPolicy::Never).await.unwrap_err();

    assert!(error.to_string().contains("accepted no data"), "{error}");
}

#[tokio::test]
async fn nginx_is_spoken_to_in_http_2_once_its_authority_is_given() {
    let (root, authority) = (tempfile::tempdir().unwrap(), testkit::TestAuthority::new());
    std::fs::write(root.path().join("file"), "content").unwrap();
    let nginx = Nginx::start(root.path(), &authority);
    let request = HttpRequest::get(&format!("{}/file", nginx.tls)).unwrap();

    let untrusted = client().send(&request, RepeatPolicy::Safe).await.unwrap_err();
    let trusting = hasty().ca_files([authority.ca_file()]).build().unwrap();
    let body =
        trusting.send(&request, RepeatPolicy::Safe).await.unwrap().read_bytes(10).await.unwrap();

    assert!(matches!(untrusted, Error::Untrusted { .. }), "{untrusted}");
    assert!(untrusted.to_string().contains("localhost"), "{untrusted}");
    assert_eq!(body, "content");
    nginx.wait_for("HTTP/2.0 /file");
}

#[test]
fn the_authorities_of_ssl_cert_file_are_trusted() {
    let (root, authority) = (tempfile::tempdir().unwrap(), testkit::TestAuthority::new());
    std::fs::write(root.path().join("file"), "content").unwrap();
    let nginx = Nginx::start(root.path(), &authority);
    let ca = authority.ca_file();
    let (url, ca) = (format!("{}/file", nginx.tls), ca.to_str().unwrap());
    let variables = [("SSL_CERT_FILE", ca), ("TEST_URL", url.as_str())];
    if !in_own_process("requests::the_authorities_of_ssl_cert_file_are_trusted", &variables) {
        return;
    }

    let request = HttpRequest::get(&std::env::var("TEST_URL").unwrap()).unwrap();
    let status = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(async { client().send(&request, RepeatPolicy::Safe).await.unwrap().status() });

    assert_eq!(status, 200);
}

#[test]
fn a_proxy_is_asked_for_other_hosts_and_never_for_this_one() {
    let proxy = Scripted::start(|_, _| answer("200 OK", "", "by proxy"));
    let direct = Scripted::start(|_, _| answer("200 OK", "", "direct"));
    let (through, url) = (proxy.url(""), direct.url("/"));
    let variables = [
        ("HTTP_PROXY", through.as_str()),
        ("http_proxy", &through),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
        ("TEST_URL", &url),
    ];
    if !in_own_process(
        "requests::a_proxy_is_asked_for_other_hosts_and_never_for_this_one",
        &variables,
    ) {
        assert!(proxy.requests()[0].starts_with("get http://registry.invalid/ "));
        return;
    }

    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for (url, expected) in [
            ("http://registry.invalid/".to_owned(), "by proxy"),
            (std::env::var("TEST_URL").unwrap(), "direct"),
        ] {
            let request = HttpRequest::get(&url).unwrap();
            let response = client().send(&request, RepeatPolicy::Safe).await.unwrap();
            assert_eq!(response.read_bytes(10).await.unwrap(), expected);
        }
    });
}

#[tokio::test]
async fn an_answer_that_is_cut_in_its_small_body_names_the_request() {
    let server = Scripted::start(|_, _| Answer::Close(head("200 OK", "", 100, b"short")));

    let request = HttpRequest::get(&server.url("/tags")).unwrap();
    let response = client().send(&request, RepeatPolicy::Safe).await.unwrap();
    let error = response.read_bytes(1000).await.unwrap_err();

    assert!(error.to_string().contains("/tags"), "{error}");
}

#[tokio::test]
async fn a_url_without_its_secrets_is_sent_with_those_that_were_remembered() {
    let server = Scripted::start(|_, _| answer("200 OK", "", "content"));
    let whole = format!("http://me:pw@{}/file?version=2&token=abc", server.host);
    let client = client();
    client.remember_secret_url(&types::SecretUrl::new(whole));

    let request = HttpRequest::get(&server.url("/file?version=2")).unwrap();
    client.send(&request, RepeatPolicy::Safe).await.unwrap();

    let seen = server.requests().concat();
    assert!(seen.contains("/file?version=2&token=abc"), "{seen}");
    // base64 of me:pw, in lower case as all of a request.
    assert!(seen.contains("authorization: basic bwu6chc="), "{seen}");
}

#[test]
fn an_error_about_a_url_has_none_of_its_secrets() {
    let error = HttpRequest::get("ht tp://me:pw@host/?token=abc").err().unwrap().to_string();
    assert!(!error.contains("pw") && !error.contains("abc"), "{error}");
}
