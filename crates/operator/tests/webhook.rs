//! The webhook as the API server uses it: over TLS, in bounded time and size, with a lock and a
//! certificate that change while it runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gantry_operator::webhook::{ImagePinning, Webhook, WebhookFiles, build_router};
use net::serve::{HttpService, ListenConfig, RunningServer, TlsFiles, start_service};
use serde_json::{Value, json};
use testkit::{TestAuthority, tools, wait_until};

const SITE: &str = "version: 1\nregistry: {url: 'site:5000/ai', pullSecret: site}\n";

fn lock(reference: &str) -> String {
    let digest = "ab".repeat(32);
    format!(
        "version: 1\nname: shop\nplatforms: [linux/amd64]\nimages:\n- reference: {reference}\n  \
         digest: sha256:{digest}\n  mediaType: m\n  size: 1\n  platforms: [linux/amd64]\n  \
         manifests: [{{digest: 'sha256:{digest}', size: 1, mediaType: m}}]\n  seen: [{{by: gantry.yaml}}]\n"
    )
}

fn review(image: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "shop",
            "operation": "CREATE", "userInfo": {"username": "somebody"}, "oldObject": null,
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    })
}

/// A webhook on loopback, and a client for it.
struct Ground {
    folder: tempfile::TempDir,
    authority: TestAuthority,
    running: RunningServer,
}

impl Ground {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (site, lock_file) =
            (folder.path().join("site.yaml"), folder.path().join("gantry.lock"));
        fs::write(&site, SITE).unwrap();
        fs::write(&lock_file, lock("quay.io/shop/web:1")).unwrap();
        let authority = TestAuthority::new();
        let pair = authority.issue_server_certificate(folder.path());
        let tls = TlsFiles { certificate: pair.certificate, key: pair.key };
        let files = WebhookFiles {
            site,
            locks: vec![lock_file],
            receipts: vec![],
            pin: ImagePinning::Digest,
        };
        let webhook = Webhook::start(files).unwrap();
        let numbers = webhook.metrics_registry();
        let config = ListenConfig { listen: "127.0.0.1:0".parse().unwrap(), tls: Some(tls) };
        let service = HttpService { metrics: numbers, ..HttpService::new(build_router(webhook)) };
        let running = start_service(&config, service).await.unwrap();
        Self { folder, authority, running }
    }

    /// Sends a request with curl; returns the status and the answer.
    fn ask(&self, path: &str, body: &[u8]) -> (String, Value) {
        curl(&self.authority.ca_file(), &self.url(path), self.folder.path(), body)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.running.address().port())
    }

    fn judged(&self, path: &str, image: &str) -> Value {
        let (status, answer) = self.ask(path, review(image).to_string().as_bytes());
        assert_eq!(status, "200", "{answer}");
        assert_eq!(answer["response"]["uid"], "705ab4f5");
        answer["response"].clone()
    }

    fn metrics(&self) -> String {
        let mut curl = tools::tool_command("curl");
        let ca = self.authority.ca_file();
        tools::run_command(curl.args(["-s", "--cacert"]).arg(ca).arg(self.url("/metrics")))
    }
}

fn curl(ca: &Path, url: &str, folder: &Path, body: &[u8]) -> (String, Value) {
    let file = folder.join("body.json");
    fs::write(&file, body).unwrap();
    let mut curl = tools::tool_command("curl");
    curl.args(["-s", "-w", "\n%{http_code}", "-H", "content-type: application/json", "--cacert"]);
    curl.arg(ca).arg("--data-binary").arg(format!("@{}", file.display())).arg(url);
    let output = curl.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (answer, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(answer).unwrap_or(Value::String(answer.to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_is_moved_a_stranger_refused_and_both_are_counted() {
    let ground = Ground::new().await;

    let moved = ground.judged("/enforce", "quay.io/shop/web:1");
    let refused = ground.judged("/enforce", "quay.io/shop/web:2");
    let warned = ground.judged("/move", "quay.io/shop/web:2");

    assert_eq!((&moved["allowed"], &moved["patchType"]), (&json!(true), &json!("JSONPatch")));
    assert!(moved["patch"].as_str().unwrap().len() > 40, "{moved}");
    assert_eq!(refused["allowed"], false);
    assert_eq!(refused["status"]["code"], 403);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("quay.io/shop/web is locked as 1"), "{message}");
    assert_eq!(warned["allowed"], true);
    assert!(warned["warnings"][0].as_str().unwrap().contains("is not locked"), "{warned}");
    let numbers = ground.metrics();
    for line in [
        r#"gantry_webhook_reviews_total{verdict="moved"} 1"#,
        r#"gantry_webhook_reviews_total{verdict="refused"} 1"#,
        r#"gantry_webhook_reviews_total{verdict="warned"} 1"#,
        "gantry_webhook_images_moved_total 1",
        r#"gantry_http_requests_total{endpoint="webhook",status="200"} 3"#,
    ] {
        assert!(numbers.contains(line), "{line} is not in {numbers}");
    }
    assert_eq!(numbers.matches("# EOF").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_or_too_long_is_not_answered() {
    let ground = Ground::new().await;
    let mut deployment = review("x:1");
    let resource = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    deployment["request"]["resource"] = resource;
    let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
    for (body, status) in [
        (b"".to_vec(), "400"),
        (b"{}".to_vec(), "400"),
        (deep, "400"),
        (deployment.to_string().into_bytes(), "400"),
    ] {
        assert_eq!(ground.ask("/enforce", &body).0, status);
    }
    // 413, or the stream is reset before all is sent: curl reports one or the other.
    let too_long = ground.ask("/enforce", &vec![b' '; 9 << 20]).0;
    assert!(["413", "000"].contains(&too_long.as_str()), "{too_long}");

    let mut large = review("quay.io/shop/web:1");
    let container = |n| json!({"name": format!("c{n}"), "image": format!("evil.example/a{n}:1")});
    large["request"]["object"]["spec"]["containers"] = (0..20_000).map(container).collect();
    let started = Instant::now();
    let (status, answer) = ground.ask("/enforce", large.to_string().as_bytes());

    assert_eq!(status, "200");
    assert!(answer.to_string().len() < 4096 && started.elapsed() < Duration::from_mins(1));
    assert_eq!(ground.judged("/enforce", "quay.io/shop/web:1")["allowed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_lock_is_read_and_a_broken_one_leaves_what_was_there() {
    let ground = Ground::new().await;
    let file = ground.folder.path().join("gantry.lock");
    let is_admitted = || ground.judged("/enforce", "quay.io/shop/web:22")["allowed"] == true;

    fs::write(&file, lock("quay.io/shop/web:22")).unwrap();
    wait_until("the new lock is read", is_admitted);
    fs::write(&file, "version: 1\nname: [").unwrap();
    wait_until("the broken lock is told", || {
        ground.metrics().contains("gantry_webhook_reload_failures_total 1")
    });

    assert!(is_admitted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let ground = Ground::new().await;
    assert_eq!(ground.judged("/move", "quay.io/shop/web:1")["allowed"], true);
    let renewed = TestAuthority::new();
    let body = review("quay.io/shop/web:1").to_string();

    renewed.issue_server_certificate(ground.folder.path());

    let folder = ground.folder.path();
    wait_until("the new certificate is shown", || {
        curl(&renewed.ca_file(), &ground.url("/enforce"), folder, body.as_bytes()).0 == "200"
    });
    ground.running.drain_requests(Duration::from_secs(5)).await;
}
