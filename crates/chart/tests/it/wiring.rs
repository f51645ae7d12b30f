//! Configures real charts for offline use, with helm: every model runtime in the final render is
//! offline, and a scan that shares no code with the crate finds no other change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::support::{self, containers, variable};
use chart::manifest::Manifests;
use chart::phone_home::PhoneHomeRules;
use chart::values;
use chart::wiring::{OfflineWiring, SiteServices, WiringRequest, WiringTable, wire_release};
use gantry_chart as chart;
use serde_json::Value;
use types::site::Site;

const SITE: &str = "version: 1\nregistry: {url: 'registry.internal:5000/ai', ca: ca.pem}\n\
    clusterIssuer: internal-ca\nmodels:\n- {to: 'pvc://default/models'}\n- {to: 's3://models/sie', layout: sie, endpoint: 'https://s3.internal:9000'}\n\
    - {to: 'pvc://default/ollama', layout: ollama}\n";

/// A chart that was configured for offline use.
struct Run {
    name: String,
    wiring: OfflineWiring,
    before: String,
    /// The render with the overlay and the patches.
    after: String,
}

fn runs() -> &'static BTreeMap<String, Run> {
    static RUNS: OnceLock<BTreeMap<String, Run>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let runs = support::archives().into_iter().map(|archive| {
            let run = wired(&archive, SITE);
            (run.name.clone(), run)
        });
        runs.collect()
    })
}

fn wired(archive: &std::path::Path, site: &str) -> Run {
    let offline =
        SiteServices::from_site(&Site::parse("site.yaml", site).unwrap(), Some("default"));
    let chart = support::read(archive);
    let own = support::values_file(&chart);
    let user = std::fs::read_to_string(&own).unwrap_or_default();
    let user = values::read_values("values", &user).unwrap();
    let render = |overlay: Option<&str>| support::helm(archive, &own, overlay);
    let request = WiringRequest {
        chart: &chart,
        user: &user,
        own: &user,
        offline: &offline,
        table: WiringTable::builtin(),
        switches: PhoneHomeRules::builtin(),
    };
    let wiring = wire_release(&request, &render).unwrap();
    let overlay = wiring.overlay(&chart.effective_values(&user)).to_string();
    let before = render(None).unwrap();
    let after = wiring.patches().apply(&render(Some(&overlay)).unwrap()).unwrap();
    Run { name: chart.name().to_owned(), wiring, before, after }
}

fn run(name: &str) -> &'static Run {
    runs().get(name).expect("the chart is there")
}

/// Removes from `after` the new variables and mounts of its containers and the new volumes of its
/// pods.
fn without_new(before: &Value, after: &mut Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for key in ["env", "volumeMounts", "volumes"] {
                let known = before.get(key).and_then(Value::as_array);
                if let Some(own) = after.get_mut(key).and_then(Value::as_array_mut) {
                    own.retain(|item| known.is_some_and(|known| known.contains(item)));
                    match before.get(key) {
                        // `volumes:` with nothing behind it is an empty list too.
                        Some(Value::Null) if own.is_empty() => after[key] = Value::Null,
                        None if own.is_empty() => {
                            after.shift_remove(key);
                        }
                        _ => {}
                    }
                }
            }
            for (key, value) in before {
                if let Some(after) = after.get_mut(key) {
                    without_new(value, after);
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            before.iter().zip(after).for_each(|(before, after)| without_new(before, after));
        }
        _ => {}
    }
}

#[test]
fn nothing_but_variables_mounts_and_volumes_is_new_in_any_chart() {
    for run in runs().values() {
        // Passwords and the like differ with each render: such documents are not compared.
        let archive = support::archives();
        let archive = archive.iter().find(|path| support::read(path).name() == run.name).unwrap();
        let own = support::values_file(&support::read(archive));
        let again = Manifests::read(&support::helm(archive, &own, None).unwrap());
        let (before, after) = (Manifests::read(&run.before), Manifests::read(&run.after));
        assert_eq!(before.documents.len(), after.documents.len(), "{}", run.name);
        let pairs = before.documents.iter().zip(&after.documents).zip(&again.documents);
        for ((before, after), again) in pairs {
            if before.text == after.text || before.text != again.text {
                continue;
            }
            let mut value = after.value.clone();
            without_new(&before.value, &mut value);
            let place = format!("{}: {} {}", run.name, before.kind(), before.name());
            assert_eq!(before.value, value, "{place}");
        }
    }
}

#[test]
fn every_runtime_of_every_chart_is_offline() {
    let mut seen = 0;
    for run in runs().values() {
        for (place, container) in containers(&run.after) {
            let image = container["image"].as_str().unwrap_or_default();
            let parts = ["vllm-openai", "sie-server", "onyx-model-server"];
            let is_runtime = parts.iter().any(|part| image.contains(part));
            // Containers that only pull the image have a command that does nothing.
            if !is_runtime || place.contains("DaemonSet") {
                continue;
            }
            seen += 1;
            for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"] {
                assert_eq!(variable(&container, name), Some("1"), "{}: {place}", run.name);
            }
            let file = variable(&container, "SSL_CERT_FILE").expect("it trusts the site");
            assert_eq!(file, "/gantry/ca/ca.crt");
            assert!(container["volumeMounts"].to_string().contains("\"/gantry/ca\""), "{place}");
            assert!(container["volumes"].to_string().contains("\"gantry-ca\""), "{place}");
        }
    }
    assert_eq!(seen, 6, "two of onyx, two of sie-cluster, two of vllm-stack");
}

#[test]
fn a_claim_is_mounted_read_only_where_the_models_are_looked_for_by_values_alone() {
    for name in ["onyx", "vllm-stack"] {
        let run = run(name);
        let runtimes: Vec<_> = containers(&run.after)
            .into_iter()
            .filter(|(_, container)| variable(container, "HF_HUB_CACHE").is_some())
            .collect();
        assert_eq!(runtimes.len(), 2, "{name}");
        for (place, container) in runtimes {
            assert_eq!(variable(&container, "HF_HUB_CACHE"), Some("/gantry/models"));
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["mountPath"] == "/gantry/models").unwrap();
            assert_eq!(mount["readOnly"], true, "{place}");
            let volumes = container["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            assert_eq!(volume["persistentVolumeClaim"]["claimName"], "models");
            let by_patch = run.wiring.to_rows().into_iter().any(|row| {
                row.by.is_none() && place.contains(row.place.split([' ', ',']).nth(1).unwrap())
            });
            assert!(!by_patch, "{name}: {place} needs a patch");
        }
        assert_eq!(run.wiring.leftovers, []);
    }
}

#[test]
fn sie_reads_the_bucket_and_the_rest_of_what_it_needs_comes_by_one_list_and_a_patch() {
    let run = run("sie-cluster");
    let shown: Vec<String> = run.wiring.settings.iter().map(|own| own.path.to_string()).collect();
    assert_eq!(
        shown,
        [
            "workers.common.clusterCache.enabled",
            "workers.common.clusterCache.url",
            "workers.common.extraEnv"
        ]
    );
    let all = containers(&run.after);
    let worker = &all["StatefulSet/rel-sie-cluster-worker-cpu/worker"];
    assert_eq!(variable(worker, "SIE_CLUSTER_CACHE"), Some("s3://models/sie"), "{worker}");
    assert_eq!(variable(worker, "AWS_ENDPOINT_URL"), Some("https://s3.internal:9000"));
    assert_eq!(variable(worker, "SIE_TELEMETRY_DISABLED"), Some("1"));
    assert_eq!(variable(worker, "HF_HUB_CACHE"), None, "its models are in the bucket");
    // The chart has no value for volumes of its workers.
    let patched: Vec<&str> = run.wiring.patches.iter().map(|patch| patch.name.as_str()).collect();
    assert_eq!(patched, ["rel-sie-cluster-worker-cpu", "rel-sie-cluster-worker-l4"]);
    let gateway = all.iter().find(|(place, _)| place.contains("gateway")).unwrap().1;
    assert_eq!(variable(gateway, "HF_HUB_OFFLINE"), None, "no runtime, no wiring");
}

#[test]
fn what_reports_home_is_silenced_in_each_chart_s_own_way() {
    for (name, place, variable_name, value, by) in [
        ("airflow", "Deployment/rel-scheduler/scheduler", "SCARF_ANALYTICS", "false", "extraEnv"),
        ("minio", "Deployment/rel-minio/minio", "MINIO_UPDATE", "off", "extraEnvVars"),
        (
            "mlflow",
            "Deployment/rel-mlflow-tracking/mlflow",
            "MLFLOW_DISABLE_TELEMETRY",
            "true",
            "tracking.extraEnvVars",
        ),
        (
            "superset",
            "Deployment/rel-superset-web/superset-web",
            "SCARF_ANALYTICS",
            "false",
            "web.extraEnvVars",
        ),
    ] {
        let run = run(name);
        let all = containers(&run.after);
        assert_eq!(variable(&all[place], variable_name), Some(value), "{name}: {place}");
        let is_set = run.wiring.settings.iter().any(|own| own.path.to_string() == by);
        assert!(is_set, "{name}: {:?}", run.wiring.settings);
    }
}

#[test]
fn keycloak_trusts_the_site_through_values_that_are_texts() {
    let run = run("keycloakx");
    let all = containers(&run.after);
    let keycloak = &all["StatefulSet/rel-keycloakx/keycloak"];
    assert_eq!(variable(keycloak, "KC_TRUSTSTORE_PATHS"), Some("/gantry/ca/ca.crt"));
    assert_eq!(run.wiring.patches, []);
    let is_text = |own: &chart::wiring::OverlaySetting| own.value.is_string();
    assert!(run.wiring.settings.iter().all(is_text), "{:?}", run.wiring.settings);
}

#[test]
fn a_chart_is_rendered_a_handful_of_times() {
    // The first two or three are made at the same time.
    for run in runs().values() {
        assert!(run.wiring.renders <= 4, "{}: {} renders", run.name, run.wiring.renders);
    }
}

#[test]
fn charts_without_runtimes_are_left_alone() {
    for name in ["jupyterhub", "llmkube", "trino", "redis"] {
        assert!(run(name).wiring.is_empty(), "{name}: {:?}", run(name).wiring);
    }
}

#[test]
fn a_site_that_names_no_place_for_models_is_told_so_and_a_depot_needs_no_volume() {
    let registry = "version: 1\nregistry: {url: 'registry.internal:5000/ai'}\n";
    let archives = support::archives();
    let vllm = archives.iter().find(|path| path.to_string_lossy().contains("vllm-stack")).unwrap();

    let none = wired(vllm, registry);
    let left = &none.wiring.leftovers;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].next.contains("site.yaml") && left[0].next.contains("pvc://"), "{left:?}");

    let depot = wired(vllm, &format!("{registry}depot: {{url: 'http://depot.ai:8080/'}}\n"));
    let all = containers(&depot.after);
    let engine = &all["Deployment/rel-qwen-deployment-vllm/vllm"];
    assert_eq!(variable(engine, "HF_ENDPOINT"), Some("http://depot.ai:8080"));
    assert_eq!(variable(engine, "HF_HUB_OFFLINE"), None, "it would block the depot too");
    assert!(!engine["volumes"].to_string().contains("gantry"));
    assert_eq!((depot.wiring.leftovers.len(), depot.wiring.patches.len()), (0, 0));
}
