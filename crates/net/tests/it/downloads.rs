//! Downloads that are interrupted, stalled, refused, or answered with wrong ranges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Answer, Nginx, Scripted, answer, client, content, hasty, head, range_start};
use gantry_net::{Download, Error, HttpRequest};

const SIZE: usize = 300_000;

async fn collect(mut download: Download) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(chunk) = download.next_chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// The rest of the content from where a request asks, of which `most` bytes come.
fn part(request: &str, most: usize) -> Vec<u8> {
    let (all, start) = (content(SIZE), range_start(request).unwrap_or(0));
    let end = (start + most).min(SIZE);
    let (status, headers) = match range_start(request) {
        None => ("200 OK", "etag: \"one\"\r\n".to_owned()),
        Some(_) => (
            "206 Partial",
            format!("etag: \"one\"\r\ncontent-range: bytes {start}-{}/{SIZE}\r\n", SIZE - 1),
        ),
    };
    head(status, &headers, SIZE - start, &all[start..end])
}

fn download(server: &Scripted, from: usize) -> Download {
    let request = HttpRequest::get(&server.url("/blob")).unwrap();
    client().download(request, from as u64, Some(SIZE as u64))
}

#[tokio::test]
async fn a_line_that_is_cut_again_and_again_still_brings_every_byte_once() {
    let server = Scripted::start(|_, request| Answer::Close(part(request, 30_000)));

    let all = collect(download(&server, 0)).await.unwrap();

    assert!(all == content(SIZE));
    let starts: Vec<_> = server.requests().iter().filter_map(|r| range_start(r)).collect();
    assert_eq!(starts, (1..10).map(|n| n * 30_000).collect::<Vec<_>>());
    assert!(server.requests()[1].contains("if-range: \"one\""));
}

#[tokio::test]
async fn a_stall_and_an_outage_are_gone_over() {
    let server = Scripted::start(|number, request| match number {
        0 => Answer::Stall(part(request, 1000)),
        1 => answer("503 Busy", "retry-after: 0\r\n", ""),
        2 => Answer::Close(part(request, 1000)),
        3 => Answer::Close(Vec::new()),
        _ => Answer::Close(part(request, SIZE)),
    });

    let all = collect(download(&server, 0)).await.unwrap();

    assert!(all == content(SIZE));
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_partial_of_an_earlier_run_is_gone_on_with() {
    let server = Scripted::start(|_, request| Answer::Close(part(request, SIZE)));

    let rest = collect(download(&server, 123_456)).await.unwrap();

    assert!(rest == content(SIZE)[123_456..]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start_and_what_is_there_passed_over() {
    let server = Scripted::start(|number, _| {
        let most = if number == 0 { 100_000 } else { SIZE };
        Answer::Close(head("200 OK", "", SIZE, &content(SIZE)[..most]))
    });

    let all = collect(download(&server, 0)).await.unwrap();

    assert!(all == content(SIZE));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn no_progress_ends_with_all_tries_told() {
    let server = Scripted::start(|_, request| match range_start(request) {
        None => Answer::Close(part(request, 1000)),
        Some(_) => Answer::Close(head(
            "206 Partial",
            "content-range: bytes 1000-299999/300000\r\n",
            299_000,
            b"",
        )),
    });

    let error = collect(download(&server, 0)).await.unwrap_err();

    assert!(error.to_string().contains("at byte 1000"), "{error}");
    assert_eq!(server.requests().len(), 3, "the cut is the first failure of three");
}

#[tokio::test]
async fn a_range_that_does_not_fit_is_an_error_and_no_damage() {
    for (range, length) in [
        ("content-range: bytes 6-299999/300000\r\n", 299_994),
        ("content-range: bytes 5-300000/300001\r\n", 299_996),
        ("content-range: nonsense\r\n", 10),
        ("", 10),
    ] {
        let server = Scripted::start(move |_, _| {
            Answer::Close(head("206 Partial", range, length, b"12345"))
        });
        let error = collect(download(&server, 5)).await.unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{range}: {error}");
        assert_eq!(server.requests().len(), 1, "asking again does not help");
    }
}

#[tokio::test]
async fn content_of_another_length_is_refused() {
    let longer = Scripted::start(|_, _| answer("200 OK", "", content(SIZE + 1)));
    let endless = Scripted::start(|_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        bytes.extend(content(SIZE + 1));
        Answer::Close(bytes)
    });
    let shorter =
        Scripted::start(|_, _| answer("416 Not There", "content-range: bytes */7\r\n", ""));

    for (server, from) in [(&longer, 0), (&endless, 0), (&shorter, 8)] {
        let error = collect(download(server, from)).await.unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_an_error_at_once() {
    let server = Scripted::start(|_, _| {
        answer("404 No", "", r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}"#)
    });

    let error = collect(download(&server, 0)).await.unwrap_err();

    assert_eq!(error.status(), Some(404));
    assert!(error.to_string().contains("BLOB_UNKNOWN: gone"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn nginx_goes_on_from_any_place_over_tls() {
    let (root, authority) = (tempfile::tempdir().unwrap(), testkit::TestAuthority::new());
    std::fs::write(root.path().join("blob"), content(5_000_000)).unwrap();
    let nginx = Nginx::start(root.path(), &authority);
    let client = hasty().ca_files([authority.ca_file()]).build().unwrap();

    for base in [&nginx.plain, &nginx.tls] {
        for from in [0, 1, 4_999_999] {
            let request = HttpRequest::get(&format!("{base}/blob")).unwrap();
            let rest =
                collect(client.download(request, from as u64, Some(5_000_000))).await.unwrap();
            assert!(rest == content(5_000_000)[from..], "{base} from {from}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_dies_in_the_middle_of_a_real_registry_s_blob_is_gone_over() {
    let (root, authority) = (tempfile::tempdir().unwrap(), testkit::TestAuthority::new());
    std::fs::write(root.path().join("blob"), content(5_000_000)).unwrap();
    let nginx = Nginx::start(root.path(), &authority);
    let faults = testkit::FaultProxy::in_front_of(&nginx.plain);
    let cut = testkit::faults::WireFault::Cut { after: 1 << 20 };
    faults.inject("/blob", cut, testkit::faults::FaultRepeats::Exactly(3));

    let request = HttpRequest::get(&format!("{}/blob", faults.url())).unwrap();
    let all = collect(client().download(request, 0, Some(5_000_000))).await.unwrap();

    assert!(all == content(5_000_000));
    assert_eq!(faults.requests().len(), 4);
    // What was in flight when a connection died may come twice, no more.
    assert!(
        faults.sent_bytes("/blob") < 5_000_000 + 3 * (1 << 20),
        "{}",
        faults.sent_bytes("/blob")
    );
}
