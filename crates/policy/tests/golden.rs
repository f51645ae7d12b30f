//! Compares the manifests with files that a person has reviewed. After an intended change, run
//! `GANTRY_GOLDEN=write cargo test -p gantry-policy --test golden` and review the difference.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use gantry_policy::images::{self, PolicyAction, PolicyEngine};
use gantry_policy::{AdmittedVersions, AllowedImages, NamespaceScope, coverage, egress};
use serde_json::Value;
use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;
use types::site_content::SiteContent;

const SITE: &str = "version: 1\nregistry: {url: 'registry.internal:5000/ai'}\n";

/// A lock with an image in two tags, and with names that YAML could read as another type.
fn lock() -> Lock {
    let mut text = "version: 1\nname: Shop\nplatforms: [linux/amd64]\nimages:\n".to_owned();
    for (reference, index, own) in [
        ("docker.io/library/nginx:1.22", 'a', 'b'),
        ("docker.io/library/nginx:latest", 'c', 'd'),
        ("ghcr.io/org/app__x/server:v1.0", 'e', 'e'),
        ("quay.io/on:1.10", '1', '2'),
        ("quay.io/0123:1e3", '3', '4'),
    ] {
        let hex = |c: char| c.to_string().repeat(64);
        let (index, own) = (hex(index), hex(own));
        text.push_str(&format!(
            "- reference: {reference}\n  digest: sha256:{index}\n  mediaType: index\n  size: 1\n  \
             platforms: [linux/amd64]\n  manifests: [{{digest: 'sha256:{own}', size: 1, mediaType: m}}]\n  \
             seen: [{{by: gantry.yaml}}]\n"
        ));
    }
    Lock::parse("gantry.lock", &text).unwrap()
}

fn site(text: &str) -> Site {
    Site::parse("site.yaml", text).unwrap()
}

fn content(receipts: &[Receipt]) -> SiteContent {
    SiteContent::new(&[lock()], receipts, &site(SITE).registry).unwrap()
}

fn request(admit: AdmittedVersions) -> images::ImagePolicySpec {
    images::ImagePolicySpec {
        name: images::ImagePolicySpec::policy_name("Shop"),
        allowed: AllowedImages::new(&content(&[]), admit).unwrap(),
        scope: NamespaceScope::Only(["shop".parse().unwrap()].into()),
        action: PolicyAction::Deny,
    }
}

/// Compares with the file, and parses the text again: it must give the same manifests.
fn is_golden(name: &str, manifests: &[Value]) {
    let text = gantry_policy::format_manifests(&["A comment.".to_owned()], manifests).unwrap();
    let read: Vec<Value> = text
        .split("---\n")
        .skip(1)
        .map(|one| types::yaml::read_document(name, one).unwrap())
        .collect();
    assert_eq!(read, manifests, "{name} is read as it was written");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("GANTRY_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).expect("write it first: see the head of golden.rs");
    assert!(text == expected, "{name} differs:\n{text}");
}

#[test]
fn each_kind_is_written_as_a_person_has_read_it() {
    let all = request(AdmittedVersions::TagsAndDigests);
    for (name, kind) in [
        ("vap.yaml", PolicyEngine::Vap),
        ("kyverno.yaml", PolicyEngine::Kyverno),
        ("gatekeeper.yaml", PolicyEngine::Gatekeeper),
    ] {
        is_golden(name, &images::build_manifests(kind, &all).unwrap());
    }
}

#[test]
fn digests_alone_all_namespaces_and_a_warning_are_said_in_each_kind() {
    let request = images::ImagePolicySpec {
        scope: NamespaceScope::AllBut(["ingress".parse().unwrap()].into()),
        action: PolicyAction::Warn,
        ..request(AdmittedVersions::Digests)
    };
    for (kind, warns) in [
        (PolicyEngine::Vap, "\"validationActions\":[\"Warn\",\"Audit\"]"),
        (PolicyEngine::Kyverno, "\"validationFailureAction\":\"Audit\""),
        (PolicyEngine::Gatekeeper, "\"enforcementAction\":\"warn\""),
    ] {
        let text =
            serde_json::to_string(&images::build_manifests(kind, &request).unwrap()).unwrap();
        assert!(text.contains(warns), "{text}");
        assert!(text.contains("kube-system") && text.contains("\"ingress\""), "{text}");
        assert!(text.contains("named by a locked digest"), "{text}");
        assert!(!text.contains("v1.0"), "a tag is left in: {text}");
    }
}

#[test]
fn a_receipt_adds_the_digest_that_the_registry_has() {
    let receipt = format!(
        r#"{{"version": 1, "target": "registry.internal:5000/ai", "blobs": [], "roots": [
            {{"name": "docker.io/library/nginx:1.22", "kind": "image", "digest": "sha256:{}",
              "target": "registry.internal:5000/ai/library/nginx:1.22", "rewritten": "sha256:{}"}}]}}"#,
        "a".repeat(64),
        "9".repeat(64)
    );
    let receipt = Receipt::parse("receipt.json", &receipt).unwrap();
    let admit = AdmittedVersions::Digests;
    let allowed = AllowedImages::new(&content(&[receipt]), admit).unwrap();
    let request = images::ImagePolicySpec { allowed, ..request(admit) };

    let text =
        serde_json::to_string(&images::build_manifests(PolicyEngine::Vap, &request).unwrap())
            .unwrap();

    assert!(text.contains(&"9".repeat(64)), "{text}");
}

#[test]
fn egress_is_closed_but_for_what_is_named() {
    let request = egress::EgressPolicySpec {
        namespace: "shop".parse().unwrap(),
        flows: vec!["10.0.0.5:443".parse().unwrap(), "169.254.20.10:53/udp".parse().unwrap()],
        neighbours: vec!["databases:5432".parse().unwrap()],
    };
    let by_address = site("version: 1\nregistry: {url: '10.1.2.3:5000/ai'}\n");
    is_golden(
        "egress.yaml",
        &egress::build_egress_policies(&request, &by_address).unwrap().manifests,
    );
}

#[test]
fn what_of_a_site_no_network_policy_can_name_is_told() {
    let request = |flows: &[&str]| egress::EgressPolicySpec {
        namespace: "shop".parse().unwrap(),
        flows: flows.iter().map(|flow| flow.parse().unwrap()).collect(),
        neighbours: vec![],
    };
    let named = site(&format!("{SITE}models: [{{to: 's3://models'}}]\n"));
    let gaps = egress::build_egress_policies(&request(&[]), &named).unwrap().gaps;
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps[0].next.contains("--allow ADDRESS:5000"), "{gaps:?}");
    assert_eq!(
        egress::build_egress_policies(&request(&["10.0.0.5:5000"]), &named).unwrap().gaps,
        []
    );

    let service = site("version: 1\nregistry: {url: 'depot.gantry-system.svc:5000'}\n");
    let inside = egress::build_egress_policies(&request(&[]), &service).unwrap();
    assert_eq!(inside.gaps, []);
    assert!(inside.manifests[3].to_string().contains("gantry-system"), "{inside:?}");
}

#[test]
fn what_of_a_chart_the_policies_do_not_hold_is_told() {
    let stream = "
kind: DaemonSet
metadata: {name: agent}
spec: {template: {spec: {hostNetwork: true}}}
---
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {}}}
---
kind: Deployment
metadata: {name: operator}
spec: {template: {spec: {serviceAccountName: op}}}
---
kind: RoleBinding
metadata: {name: op}
subjects: [{kind: ServiceAccount, name: op}]
---
kind: Job
metadata: {name: away, namespace: other}
spec: {template: {spec: {hostNetwork: true}}}
---
kind: NetworkPolicy
metadata: {name: open}
spec: {podSelector: {}, egress: [{to: [{podSelector: {}}]}, {ports: [{port: 443}]}]}
---
kind: NetworkPolicy
metadata: {name: narrow}
spec: {podSelector: {}, egress: [{to: [{podSelector: {}}]}]}
---
kind: Service
metadata: {name: db}
spec: {type: ExternalName, externalName: db.example.com}
";
    let documents: Vec<Value> = stream
        .split("---\n")
        .map(|one| types::yaml::read_document("stream", one).unwrap())
        .collect();
    let request = egress::EgressPolicySpec {
        namespace: "shop".parse().unwrap(),
        flows: vec![],
        neighbours: vec![],
    };

    let gaps = coverage::find_gaps(&request, &documents);

    let told: Vec<(&str, String)> = gaps
        .iter()
        .map(|gap| (gap.subject.as_str(), serde_json::to_string(&gap.why).unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("DaemonSet agent", "\"host-network\"".to_owned()),
            ("Deployment operator", "\"api-server\"".to_owned()),
            ("Job away", "\"other-namespace\"".to_owned()),
            ("NetworkPolicy open", "\"lets-out-more\"".to_owned()),
            ("Service db", "\"external-name\"".to_owned()),
        ]
    );
}
