//! The audit's HTML page, pinned. `dev/report-pictures` takes the book's picture from the snapshot.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use chart::FieldLabel;
use gantry_egress::coverage::NamespaceCoverage;
use gantry_egress::findings::{FindingOrigin, StaticFinding};
use gantry_egress::pods::Workload;
use gantry_egress::report::{
    AttemptMethod, AuditReport, AuditVerdict, EgressAttempt, FixConfidence, SuggestedFix,
};
use gantry_egress::{ExerciseOutcome, ExerciseResult, ObservationMethod, Observer};
use jiff::Timestamp;

fn at(time: &str) -> Timestamp {
    format!("2026-11-21T{time}Z").parse().unwrap()
}

fn deployment(namespace: &str, name: &str) -> Workload {
    Workload { kind: "Deployment".into(), namespace: namespace.into(), name: name.into() }
}

fn stop(sure: FixConfidence, setting: &str, subject: &Workload, why: &str) -> SuggestedFix {
    SuggestedFix { sure, setting: setting.into(), subject: Some(subject.clone()), why: why.into() }
}

fn attempt(
    workload: Option<Workload>,
    (to, by, detail): (&str, AttemptMethod, &[&str]),
    count: u64,
    (first, last): (&str, &str),
    stops: Vec<SuggestedFix>,
) -> EgressAttempt {
    let pods: BTreeSet<String> = workload
        .iter()
        .map(|workload| format!("{}/{}-7c9d8f6b5-x2x4q", workload.namespace, workload.name))
        .collect();
    let address = workload.is_none().then(|| "10.0.0.12 (node worker-2)".to_owned());
    EgressAttempt {
        workload,
        pods,
        nodes: ["worker-1".to_owned()].into(),
        address,
        to: to.into(),
        by,
        detail: detail.iter().map(|&word| word.to_owned()).collect(),
        count,
        first: at(first),
        last: at(last),
        stops,
    }
}

/// An audit of a retrieval stack: eight Deployments that lack one variable, an address in an argument,
/// and a program that sends packets.
fn sample() -> AuditReport {
    let names = ["api", "chat", "embed", "ingest", "llm", "rerank", "search", "worker"];
    let hub = "loads models from huggingface.co";
    let offline = "set HF_HUB_OFFLINE=1";
    let mut findings: Vec<StaticFinding> = names
        .iter()
        .map(|name| StaticFinding {
            subject: deployment("rag", name),
            place: "spec.template.spec.containers[0]".into(),
            setting: FieldLabel { container: Some((*name).into()), name: String::new() },
            what: "HF_HUB_OFFLINE is not set to 1".into(),
            why: hub.into(),
            stop: offline.into(),
            hosts: ["huggingface.co".into()].into(),
            seen: [FindingOrigin::Rendered, FindingOrigin::Live].into(),
        })
        .collect();
    let place = "spec.template.spec.containers[0].env[0].value";
    findings.push(StaticFinding {
        subject: deployment("rag", "search"),
        place: place.into(),
        setting: FieldLabel { container: Some("search".into()), name: "variable GEOIP_URL".into() },
        what: "https://download.maxmind.com/app/geoip_download?edition_id=GeoLite2-City".into(),
        why: String::new(),
        stop: format!("change {place} to an address of the site, or turn off what uses it"),
        hosts: ["download.maxmind.com".into()].into(),
        seen: [FindingOrigin::Live].into(),
    });
    let mut attempts: Vec<EgressAttempt> = ["embed", "llm", "rerank"]
        .iter()
        .zip([
            ("12:00:41", "12:58:12", 214),
            ("12:03:09", "12:59:44", 96),
            ("12:21:30", "12:22:02", 3),
        ])
        .map(|(name, (first, last, count))| {
            let own = deployment("rag", name);
            let stops = vec![stop(FixConfidence::Certain, offline, &own, hub)];
            let to = ("huggingface.co", AttemptMethod::Name, &["A", "AAAA"][..]);
            attempt(Some(own), to, count, (first, last), stops)
        })
        .collect();
    let search = deployment("rag", "search");
    attempts.push(attempt(
        Some(search.clone()),
        ("download.maxmind.com", AttemptMethod::Name, &["A"]),
        12,
        ("12:00:05", "12:55:05"),
        vec![stop(FixConfidence::Certain, &findings[8].stop.clone(), &search, "")],
    ));
    attempts.push(attempt(
        Some(deployment("rag", "worker")),
        ("192.0.2.14:443/TCP", AttemptMethod::Packet, &[]),
        1,
        ("12:40:17", "12:40:17"),
        vec![stop(
            FixConfidence::Possible,
            "no object names 192.0.2.14: look for it in the program's own settings, or restrict the \
             namespace (gantry policy egress); if it belongs to the site, add --inside 192.0.2.14",
            &deployment("rag", "worker"),
            "",
        )],
    ));
    let ntp = ("0.pool.ntp.org", AttemptMethod::Name, &["A"][..]);
    AuditReport {
        version: 1,
        gantry: "0.1.0".into(),
        context: "site".into(),
        server: "https://10.0.0.10:6443".into(),
        namespaces: vec!["rag".into()],
        written: at("13:00:09.254891"),
        verdict: AuditVerdict::Tried,
        from: Some(at("12:00:04.118")),
        to: Some(at("13:00:04.902")),
        attempts,
        elsewhere: vec![attempt(None, ntp, 40, ("12:00:44", "12:59:31"), vec![])],
        findings,
        policies: vec![NamespaceCoverage {
            namespace: "rag".into(),
            manifests: vec![],
            gaps: vec![],
            uncovered: names.iter().map(|name| deployment("rag", name)).collect(),
        }],
        sources: [
            ("names", ObservationMethod::Dns),
            ("worker-1", ObservationMethod::Packets),
            ("worker-2", ObservationMethod::Packets),
        ]
        .map(|(place, source)| Observer { place: place.into(), source, reason: None })
        .into(),
        exercised: vec![ExerciseResult {
            what: "first request to vllm in Deployment rag/llm".into(),
            outcome: ExerciseOutcome::Done,
            detail: "answered in 1.4 s".into(),
        }],
        gaps: vec![],
    }
}

#[test]
fn the_page_has_a_row_for_each_cause() {
    let page = sample().to_html().unwrap();

    assert!(page.contains("8 Deployments") && !page.contains("containers[0]"), "{page}");
    insta::assert_snapshot!("audit", page);
}

#[test]
fn the_page_of_a_quiet_audit_with_gaps() {
    let mut report = sample();
    report.verdict = AuditVerdict::Unproven;
    (report.attempts, report.findings, report.elsewhere) = (vec![], vec![], vec![]);
    report.exercised = vec![];
    report.gaps = vec!["worker-2: the watcher did not start".into()];

    insta::assert_snapshot!("audit_unproven", report.to_html().unwrap());
}

#[test]
fn a_name_that_is_no_name_stays_text() {
    let mut report = sample();
    let hostile = "<script>alert(1)</script>";
    report.attempts[0].to = hostile.into();
    report.attempts[1].stops[0].setting = hostile.into();
    report.elsewhere[0].to = hostile.into();
    report.findings[0].what = hostile.into();
    report.context = hostile.into();
    report.gaps = vec![hostile.into()];

    assert!(!report.to_html().unwrap().contains("<script"));
}
