//! Uploads of large blobs: they go on after an interruption and in the next run, in pieces that the
//! line, a proxy and the registry take, and start again a bounded number of times.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::registry::cutter::Cutter;
use crate::registry::{self, User, servers, user_with_noise};
use gantry_remote::Error;
use gantry_remote::oci::{RegistrySink, SparsePolicy};
use store::Sink as _;
use testkit::faults::{FaultRepeats, WireFault};
use testkit::{NginxProxy, TestRegistry};

/// More than the first piece, which has 16 MiB.
const LARGE: usize = 24 << 20;
const PIECE: u64 = 16 << 20;

/// Pushes everything, and returns how many bytes of blobs moved.
async fn push_all(user: &User, push: &RegistrySink) -> gantry_remote::Result<u64> {
    let moved = Arc::new(AtomicU64::new(0));
    put_blobs(user, push, &moved).await?;
    user.load(push).await?;
    Ok(moved.load(Ordering::SeqCst))
}

async fn put_blobs(
    user: &User,
    push: &RegistrySink,
    moved: &Arc<AtomicU64>,
) -> gantry_remote::Result<()> {
    for root in user.store.roots().unwrap() {
        for blob in &store::find_closure(&user.store, &root).unwrap().blobs {
            let (from, moved) = (Arc::new(user.store.clone()), Arc::clone(moved));
            let count = move |bytes| {
                moved.fetch_add(bytes, Ordering::SeqCst);
            };
            push.put_blob(&root, blob, from, Arc::new(count)).await?;
        }
    }
    Ok(())
}

/// Pushes until so many bytes have moved, and drops everything then, as a kill does.
async fn push_and_die(user: &User, push: &RegistrySink, after: u64) {
    let moved = Arc::new(AtomicU64::new(0));
    let enough = async {
        while moved.load(Ordering::SeqCst) < after {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        sent = put_blobs(user, push, &moved) => panic!("it was faster: {sent:?}"),
        () = enough => {}
    }
}

async fn assert_whole(host: &str) {
    let other = User::of("http://127.0.0.1:1");
    other.pull(&[&format!("{host}/ai/big:1")], "linux/amd64").await;
    other.assert_whole();
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_goes_on_where_a_killed_one_was() {
    let (site, user) = (servers::conformant(), user_with_noise(LARGE).await);
    let folder = tempfile::tempdir().unwrap();
    let push = || user.push(&site.host, SparsePolicy::Auto).keep_uploads_in(folder.path().into());
    push_and_die(&user, &push(), PIECE + (4 << 20)).await;
    assert_eq!(files_in(folder.path()), 1);

    let second = push();
    let moved = push_all(&user, &second).await.unwrap();

    assert!(moved <= LARGE as u64 - PIECE + (1 << 20), "{moved}");
    assert_eq!(second.restarted_uploads(), []);
    assert_eq!(files_in(folder.path()), 0, "nothing is left of it");
    assert_whole(&site.host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_registry_goes_on_between_two_pieces_behind_a_proxy_that_passes_on_whole_ones() {
    let (site, user) = (TestRegistry::start(), user_with_noise(LARGE).await);
    let proxy = NginxProxy::in_front_of(site.host(), "0");
    let folder = tempfile::tempdir().unwrap();
    let push = || user.push(proxy.host(), SparsePolicy::Auto).keep_uploads_in(folder.path().into());
    push_and_die(&user, &push(), PIECE + (2 << 20)).await;

    let second = push();
    let moved = push_all(&user, &second).await.unwrap();

    assert!(moved <= LARGE as u64 - PIECE + (1 << 20), "{moved}");
    assert_eq!(second.restarted_uploads(), []);
    assert_whole(site.host()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_registry_lost_within_a_piece_is_told_and_sent_again() {
    let (site, user) = (TestRegistry::start(), user_with_noise(LARGE).await);
    let folder = tempfile::tempdir().unwrap();
    let push = || user.push(site.host(), SparsePolicy::Auto).keep_uploads_in(folder.path().into());
    push_and_die(&user, &push(), PIECE + (4 << 20)).await;
    // The registry writes what arrived before the connection broke.
    tokio::time::sleep(Duration::from_millis(300)).await;

    let second = push();
    push_all(&user, &second).await.unwrap();

    let restarted = second.restarted_uploads();
    assert_eq!(restarted.len(), 1);
    assert_eq!((restarted[0].repository.as_str(), restarted[0].bytes), ("ai/big", PIECE));
    assert_whole(site.host()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_asked_to_stop_ends_between_two_pieces() {
    let (site, user) = (TestRegistry::start(), user_with_noise(LARGE).await);
    let folder = tempfile::tempdir().unwrap();
    let push = || user.push(site.host(), SparsePolicy::Auto).keep_uploads_in(folder.path().into());
    let first = push();
    let moved = Arc::new(AtomicU64::new(0));
    let stop = async {
        while moved.load(Ordering::SeqCst) < 1 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        first.stop_uploads();
    };
    let (sent, ()) = tokio::join!(put_blobs(&user, &first, &moved), stop);
    assert!(matches!(sent, Err(Error::Stopped)), "{sent:?}");

    let second = push();
    let moved = push_all(&user, &second).await.unwrap();

    assert!(moved <= LARGE as u64 - PIECE + (1 << 20), "{moved}");
    assert_eq!(second.restarted_uploads(), []);
    assert_whole(site.host()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_a_proxy_does_not_take_become_smaller() {
    let (site, user) = (TestRegistry::start(), user_with_noise(6 << 20).await);
    let proxy = NginxProxy::in_front_of(site.host(), "1m");

    push_all(&user, &user.push(proxy.host(), SparsePolicy::Auto)).await.unwrap();

    assert_whole(site.host()).await;
    let narrow = NginxProxy::in_front_of(site.host(), "20k");
    let push = user.push_below(narrow.host(), "narrow", SparsePolicy::Auto);
    let error = push_all(&user, &push).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::BodyLimit { .. }), "{text}");
    assert!(text.contains("413") && text.contains("client_max_body_size"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_lost_in_between_is_begun_again_a_bounded_number_of_times() {
    let (site, user) = (TestRegistry::start(), user_with_noise(LARGE).await);
    for code in [404, 416] {
        let faults = registry::faults(&site.url());
        let lost = WireFault::Status { code, retry_after: None };
        faults.inject("_state=", lost, FaultRepeats::Exactly(2));
        let path = format!("lost-{code}");
        let push = user.push_below(&faults.host(), &path, SparsePolicy::Auto);
        push_all(&user, &push).await.unwrap();

        faults.inject("_state=", lost, FaultRepeats::Always);
        let push = user.push_below(&faults.host(), &format!("{path}-always"), SparsePolicy::Auto);
        let error = push_all(&user, &push).await.unwrap_err().to_string();
        assert!(error.contains("lost the upload"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_goes_on_where_the_registry_says() {
    let (site, user) = (servers::conformant(), user_with_noise(8 << 20).await);
    let cutter = Cutter::before(&site.host, 3 << 20, 2);
    let moved = std::sync::Arc::default();

    let sent = user.load_counting(&cutter.address.to_string(), &moved).await;

    sent.unwrap();
    assert_eq!(cutter.left(), 0);
    assert!(cutter.passed() < (8 << 20) + (1 << 20), "{}", cutter.passed());
    assert_eq!(moved.load(std::sync::atomic::Ordering::SeqCst), 8 << 20, "told once");
    let other = User::of("http://127.0.0.1:1");
    other.pull(&[&format!("{}/ai/big:1", site.host)], "linux/amd64").await;
    other.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_docker_registry_forgot_after_a_cut_is_begun_anew() {
    let (site, user) = (TestRegistry::start(), user_with_noise(8 << 20).await);
    let cutter = Cutter::before(site.host(), 3 << 20, 2);

    user.load_counting(&cutter.address.to_string(), &std::sync::Arc::default()).await.unwrap();

    assert_eq!(cutter.left(), 0);
    let other = User::of("http://127.0.0.1:1");
    other.pull(&[&format!("{}/ai/big:1", site.host())], "linux/amd64").await;
    other.assert_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_never_carries_a_blob_is_given_up_with_its_history() {
    let (site, user) = (TestRegistry::start(), user_with_noise(8 << 20).await);
    let cutter = Cutter::before(site.host(), 20 << 10, usize::MAX);

    let error = user
        .load_counting(&cutter.address.to_string(), &std::sync::Arc::default())
        .await
        .unwrap_err();

    let text = error.to_string();
    assert!(text.contains("pushing") && text.contains("6 times"), "{text}");
}
