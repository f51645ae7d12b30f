//! A sample of each result that needs a cluster, a server or a static binary: its table and its JSON in
//! a snapshot, and the JSON against its published schema. The results that need none of these are in
//! `tests/it/snapshots.rs`, as the program prints them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use ::deploy::check::{CheckFinding, CheckName, CheckReport};
use ::deploy::release::{
    DeployPlan, DeployedRelease, DriftOutcome, FieldDrift, ObjectChange, ObjectDifference,
    ReleaseAction, ReleaseRepair, RemovalReport, SupportObject, SupportObjectStatus,
};
use chart::FieldLabel;
use cluster::ObjectId;
use egress::coverage::NamespaceCoverage;
use egress::findings::{FindingOrigin, StaticFinding};
use egress::pods::Workload;
use egress::report::{
    AttemptMethod, AuditReport, AuditVerdict, EgressAttempt, FixConfidence, SuggestedFix,
};
use egress::{ExerciseOutcome, ExerciseResult, ObservationMethod, Observer};
use serde::Serialize;
use serde_json::Value;

use super::schema::PublishedSchema;
use super::{audit, check, deploy, image, serve, undeploy, webhook};

const SERVER: &str = "https://10.0.0.10:6443";

/// Compares both forms of a result with what was reviewed, and the JSON with its schema.
#[track_caller]
fn assert_reviewed<T: Serialize>(name: &str, result: &T, format: impl FnOnce(&T) -> String) {
    let json = serde_json::to_value(result).unwrap();
    let schema = PublishedSchema::find(&format!("output-{name}")).unwrap().to_json();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(testkit::json_schema::find_schema_errors(&schema, &json), [""; 0], "{json:#}");
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(format!("table-{name}"), format(result));
        insta::assert_snapshot!(
            format!("json-{name}"),
            serde_json::to_string_pretty(result).unwrap()
        );
    });
}

fn object(kind: &str, name: &str) -> ObjectId {
    ObjectId {
        api_version: "apps/v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
    }
}

fn beside(object: &str, outcome: SupportObjectStatus) -> SupportObject {
    SupportObject { object: object.to_owned(), outcome }
}

#[test]
fn the_result_of_deploy_is_as_reviewed() {
    let release = |name: &str, action| DeployedRelease {
        release: name.to_owned(),
        namespace: "shop".to_owned(),
        chart: format!("{name} 1.2.0"),
        action,
        restarted: vec![],
        mended: None,
        revision: 1,
        changed: 0,
        drift: vec![],
        beside: vec![],
    };
    let drift = |manager: &str, field: &str, outcome| FieldDrift {
        object: object("Deployment", "cache"),
        manager: manager.to_owned(),
        fields: vec![field.to_owned()],
        outcome,
    };
    let summary = deploy::DeploySummary {
        context: "site".to_owned(),
        server: SERVER.to_owned(),
        namespace_objects: vec![beside(
            "ServiceAccount jobs/default",
            SupportObjectStatus::Changed,
        )],
        releases: vec![
            DeployedRelease {
                changed: 7,
                beside: vec![
                    beside("Namespace shop", SupportObjectStatus::Created),
                    beside("Secret shop/site-pull", SupportObjectStatus::Created),
                    beside("ServiceAccount shop/db", SupportObjectStatus::Changed),
                ],
                ..release("db", ReleaseAction::Install)
            },
            DeployedRelease {
                mended: Some(ReleaseRepair::RolledBack),
                revision: 4,
                changed: 1,
                beside: vec![beside("Secret shop/site-pull", SupportObjectStatus::Kept)],
                ..release("web", ReleaseAction::Mend)
            },
            DeployedRelease {
                revision: 2,
                changed: 1,
                drift: vec![
                    drift(
                        "kubectl-set",
                        r#".spec.template.spec.containers[name="cache"].image"#,
                        DriftOutcome::Restored,
                    ),
                    drift("kube-controller-manager", ".spec.replicas", DriftOutcome::Left),
                ],
                ..release("cache", ReleaseAction::Restore)
            },
            DeployedRelease { revision: 3, ..release("mail", ReleaseAction::None) },
        ],
    };

    assert_reviewed("deploy", &summary, deploy::format_summary);
}

#[test]
fn the_preview_of_deploy_is_as_reviewed() {
    let change = |kind: &str, name: &str, change, diff: &str| ObjectDifference {
        object: object(kind, name),
        change,
        diff: diff.to_owned(),
    };
    let preview = deploy::DeployPreview {
        context: "site".to_owned(),
        server: SERVER.to_owned(),
        namespace_objects: vec![beside("Secret jobs/site-pull", SupportObjectStatus::Created)],
        releases: vec![DeployPlan {
            release: "web".to_owned(),
            namespace: "shop".to_owned(),
            chart: "web 1.2.0".to_owned(),
            action: ReleaseAction::Upgrade,
            beside: vec![
                beside("Namespace shop", SupportObjectStatus::Same),
                beside("Secret shop/site-pull", SupportObjectStatus::Changed),
                beside("ConfigMap shop/gantry-site-ca", SupportObjectStatus::Created),
            ],
            changes: vec![
                change(
                    "Deployment",
                    "web",
                    ObjectChange::Changed,
                    "-  replicas: 1\n+  replicas: 2\n",
                ),
                change("StatefulSet", "queue", ObjectChange::Created, ""),
                change("Deployment", "worker", ObjectChange::Removed, ""),
            ],
            drift: vec![FieldDrift {
                object: object("Deployment", "web"),
                manager: "kubectl-edit".to_owned(),
                fields: vec![".spec.replicas".to_owned()],
                outcome: DriftOutcome::Adopted,
            }],
            notes: vec!["Route shop/web was not checked: the cluster has no kind Route".to_owned()],
        }],
    };

    assert_reviewed("deploy-dry-run", &preview, deploy::format_preview);
}

#[test]
fn the_result_of_undeploy_is_as_reviewed() {
    let summary = undeploy::UndeploySummary {
        context: "site".to_owned(),
        namespace_objects: vec!["Secret jobs/site-pull".to_owned()],
        is_dry_run: false,
        namespaces: vec![RemovalReport {
            namespace: "shop".to_owned(),
            releases: vec!["web".to_owned(), "db".to_owned()],
            objects: vec!["Secret shop/site-pull".to_owned()],
            kept: vec![
                "PersistentVolumeClaim shop/data-db-0: --delete-claims deletes it".to_owned(),
            ],
        }],
        missing: vec!["cache".to_owned()],
    };

    assert_reviewed("undeploy", &summary, undeploy::format_summary);
}

#[test]
fn the_result_of_check_is_as_reviewed() {
    let pod = "Pod search-7c9d8f6b5-x2x4q";
    let findings = vec![
        CheckFinding::ok(CheckName::Api, SERVER, "API server", "v1.33.4"),
        CheckFinding::skipped(CheckName::PullSecret, "rag", "pull secret", "site.yaml names none"),
        CheckFinding::ok(CheckName::NodePull, "worker-1", "Node worker-1", "pulls an image")
            .with_duration(Duration::from_millis(2_400)),
        CheckFinding::warning(CheckName::Quota, "rag", "ResourceQuota compute").with_reason(
            "requests.memory: 118 GiB of 128 GiB are in use after this deploy",
            "raise the quota before the next model",
        ),
        CheckFinding::failed(CheckName::Running, "rag", pod)
            .with_reason(
                "container search runs sha256:9f2c4c1d0f6a, the lock has sha256:1b7a30d2c9e4",
                "load the bundle again, then delete the pod",
            )
            .with_wrong_digest(),
    ];
    let report = CheckReport::new("site", SERVER, findings);

    assert_reviewed("check", &report, check::format_report);
}

#[test]
fn the_result_of_audit_is_as_reviewed() {
    let workload =
        Workload { kind: "Deployment".into(), namespace: "rag".into(), name: "embed".into() };
    let at = |time: &str| format!("2026-11-21T{time}Z").parse().unwrap();
    let offline = "set HF_HUB_OFFLINE=1";
    let attempt = EgressAttempt {
        workload: Some(workload.clone()),
        pods: ["rag/embed-7c9d8f6b5-x2x4q".to_owned()].into(),
        nodes: ["worker-1".to_owned()].into(),
        address: None,
        to: "huggingface.co".into(),
        by: AttemptMethod::Name,
        detail: ["A".to_owned(), "AAAA".to_owned()].into(),
        count: 214,
        first: at("12:00:41"),
        last: at("12:58:12"),
        stops: vec![SuggestedFix {
            sure: FixConfidence::Certain,
            setting: offline.into(),
            subject: Some(workload.clone()),
            why: "loads models from huggingface.co".into(),
        }],
    };
    let elsewhere = EgressAttempt {
        workload: None,
        pods: BTreeSet::new(),
        address: Some("10.0.0.12 (node worker-2)".into()),
        to: "192.0.2.14:123/UDP".into(),
        by: AttemptMethod::Packet,
        detail: BTreeSet::new(),
        stops: vec![],
        ..attempt.clone()
    };
    let report = AuditReport {
        version: 1,
        gantry: "0.1.0".into(),
        context: "site".into(),
        server: SERVER.into(),
        namespaces: vec!["rag".into()],
        written: at("13:00:09"),
        verdict: AuditVerdict::Tried,
        from: Some(at("12:00:04")),
        to: Some(at("13:00:04")),
        attempts: vec![attempt],
        elsewhere: vec![elsewhere],
        findings: vec![StaticFinding {
            subject: workload.clone(),
            place: "spec.template.spec.containers[0]".into(),
            setting: FieldLabel { container: Some("embed".into()), name: String::new() },
            what: "HF_HUB_OFFLINE is not set to 1".into(),
            why: "loads models from huggingface.co".into(),
            stop: offline.into(),
            hosts: ["huggingface.co".into()].into(),
            seen: [FindingOrigin::Rendered, FindingOrigin::Live].into(),
        }],
        policies: vec![NamespaceCoverage {
            namespace: "rag".into(),
            manifests: vec![],
            gaps: vec![],
            uncovered: vec![workload],
        }],
        sources: vec![
            Observer { place: "names".into(), source: ObservationMethod::Dns, reason: None },
            Observer {
                place: "worker-1".into(),
                source: ObservationMethod::Packets,
                reason: Some("the pod did not start".into()),
            },
        ],
        exercised: vec![ExerciseResult {
            what: "first request to vllm in Deployment rag/llm".into(),
            outcome: ExerciseOutcome::Done,
            detail: "answered in 1.4 s".into(),
        }],
        gaps: vec!["worker-1: its connections were not recorded".into()],
    };

    assert_reviewed("audit", &report, audit::format_report);
}

#[test]
fn the_result_of_audit_restore_is_as_reviewed() {
    let restored = vec![
        "ConfigMap kube-system/coredns: restored".to_owned(),
        "Namespace gantry-audit: deleted".to_owned(),
    ];
    assert_reviewed(
        "audit-restore",
        &audit::AuditRestoration { restored },
        audit::format_restoration,
    );
}

#[test]
fn the_result_of_serve_is_as_reviewed() {
    let ready = serve::DepotReady {
        url: "http://127.0.0.1:5000".to_owned(),
        summary: depot::DepotSummary {
            roots: [("image", 12), ("model", 1)].into(),
            repositories: 11,
            models: 1,
            left_out: vec![depot::UnservedRoot {
                name: "quay.io/shop/web:2.1".to_owned(),
                reason: "its manifest is absent".to_owned(),
            }],
        },
    };
    assert_reviewed("serve", &ready, serve::format_ready);
}

#[test]
fn the_result_of_webhook_is_as_reviewed() {
    let ready = webhook::WebhookReady { url: "https://0.0.0.0:8443".to_owned(), repositories: 11 };
    assert_reviewed("webhook", &ready, webhook::format_ready);
}

#[test]
fn the_result_of_image_is_as_reviewed() {
    let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
    let platform = |name: &str, letter| image::OwnImagePlatform {
        platform: name.to_owned(),
        digest: digest(letter),
        bytes: 19 << 20,
    };
    let summary = image::OwnImageSummary {
        image: "ghcr.io/gantry/gantry:0.1.0".to_owned(),
        digest: digest("a"),
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        layout: "./gantry-image".to_owned(),
        platforms: vec![platform("linux/amd64", "b"), platform("linux/arm64", "c")],
    };
    assert_reviewed("image", &summary, image::format_summary);
}
