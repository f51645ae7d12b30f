//! The check's HTML page, pinned. `dev/report-pictures` takes the book's picture from the snapshot.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gantry_deploy::check::{CheckFinding, CheckName, CheckReport};

/// A release of which one model server does not start, since a claim waits for a storage class.
fn sample() -> CheckReport {
    let wait = (
        "it waits for its volume: no StorageClass is called fast-ssd",
        "set storageClass in site.yaml to one of: local-path, nfs",
    );
    let seconds = |seconds: f64| Duration::from_secs_f64(seconds);
    let mut findings = vec![
        CheckFinding::ok(CheckName::Api, "https://10.0.0.10:6443", "API server", "v1.33.4"),
        CheckFinding::ok(CheckName::Rights, "rag", "permissions", "all 23 that a deploy needs"),
        CheckFinding::ok(CheckName::Nodes, "cluster", "nodes", "3 ready, linux/amd64"),
        CheckFinding::ok(CheckName::Registry, "registry.internal:5000", "registry", "answers")
            .with_duration(seconds(0.031)),
        CheckFinding::skipped(CheckName::PullSecret, "rag", "pull secret", "site.yaml names none"),
    ];
    findings.extend(["control-plane", "worker-1", "worker-2"].map(|node| {
        CheckFinding::ok(CheckName::NodePull, node, format!("Node {node}"), "pulls an image")
            .with_duration(seconds(2.4))
    }));
    findings.push(
        CheckFinding::warning(CheckName::Quota, "rag", "ResourceQuota compute").with_reason(
            "requests.memory: 118 GiB of 128 GiB are in use after this deploy",
            "raise the quota before the next model",
        ),
    );
    for name in ["embed", "llm", "rerank"] {
        findings.push(
            CheckFinding::failed(
                CheckName::Claims,
                "rag",
                format!("PersistentVolumeClaim {name}-models"),
            )
            .with_reason(wait.0, wait.1),
        );
    }
    findings.extend(["api", "chat", "ingest", "search", "worker"].map(|name| {
        CheckFinding::ok(CheckName::Workloads, "rag", format!("Deployment {name}"), "ready")
    }));
    findings.push(
        CheckFinding::failed(CheckName::Running, "rag", "Pod search-7c9d8f6b5-x2x4q")
            .with_reason(
                "container search runs sha256:9f2c4c1d0f6a7c5b…, the lock has sha256:1b7a30d2c9e4f8a6…",
                "load the bundle again, then delete the pod: kubectl delete pod search-7c9d8f6b5-x2x4q -n rag",
            )
            .with_wrong_digest(),
    );
    findings.push(
        CheckFinding::ok(CheckName::Inference, "rag", "Service embed", "a vector of 1024 numbers")
            .with_duration(seconds(14.2)),
    );
    CheckReport::new("site", "https://10.0.0.10:6443", findings)
}

#[test]
fn the_page_has_failures_first_and_a_row_for_each_cause() {
    let page = sample().to_html("0.1.0").unwrap();

    assert_eq!(page.matches("it waits for its volume").count(), 1, "{page}");
    insta::assert_snapshot!("check", page);
}

#[test]
fn what_a_cluster_says_stays_text() {
    let hostile = "<script>alert(1)</script>";
    let finding =
        CheckFinding::failed(CheckName::Pods, hostile, hostile).with_reason(hostile, hostile);
    let report = CheckReport::new(hostile, hostile, vec![finding]);

    assert!(!report.to_html("0.1.0").unwrap().contains("<script"));
}
