//! The whole procedure as a user runs it: lock, fetch and pack with internet access, then load, deploy and
//! check inside the air gap, one command each; the deployed programs must answer requests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use crate::story::MODEL;
use crate::support;
use crate::support::platform::{Platform, beside, done};
use cluster::objects::api::core::v1::Pod;
use serde_json::Value;
use testkit::{S3Server, workloads};

/// The id of the small model.
const TINY: &str = "example/gantry-tiny";
/// How often a load is killed.
const KILLS: u64 = 10;

#[test]
fn a_platform_of_chat_embeddings_and_ollama_comes_in_and_answers_with_one_command_each() {
    let platform = Platform::new("story-platform");
    let name = platform.name();
    platform.has_chart("umbrella");
    let gguf = beside(platform.folder(), "gguf/gantry-tiny.gguf");
    std::fs::copy(workloads::gguf_path(), gguf).unwrap();
    workloads::write_ollama_models(&platform.folder().join("ollama"));
    platform.carry(
        &format!(
            "charts: [{{chart: ./umbrella-1.0.0.tgz, release: ai, namespace: {name}, values: [values.yaml]}}]\n\
             models:\n\
             - hf: {MODEL}\n\
             - {{hf: {TINY}, folder: gguf}}\n\
             - {{ollama: gantry-tiny, folder: ollama}}\n\
             checks:\n\
             - {{name: embeddings, kind: openai-embeddings, release: ai, service: ai-inference-model, expect: {{dimensions: 384}}}}\n\
             - {{name: cache, kind: tcp, release: ai, service: ai-cache}}\n"
        ),
        &[("values.yaml", &format!(
            "llm:\n  persistence: {{existingClaim: llms}}\n  model: {{path: {TINY}/gantry-tiny.gguf}}\n\
             two-model-servers:\n  inferenceCapability: {{existingClaim: hub}}\n  indexCapability: {{existingClaim: hub}}\n"
        ))],
    );
    platform.has_site(&format!(
        "models:\n\
         - {{to: pvc://{name}/hub, models: [{MODEL}], \
         create: {{accessMode: RWX, storageClass: shared-path}}}}\n\
         - {{to: pvc://{name}/llms, layout: flat, models: [{TINY}], create: {{}}}}\n\
         - {{to: pvc://{name}/ollama, layout: ollama, create: {{}}}}\n"
    ));

    let loaded = platform.load();
    let first = platform.deploy(&[]).assert_success().parse_json();
    let well = platform.is_well(&[]);

    for place in 0..3 {
        assert_eq!(loaded["targets"][place]["created"], true, "{loaded:#}");
        assert_eq!(loaded["targets"][place]["via"], "registry", "{loaded:#}");
    }
    assert_eq!(done(&first), [("ai".to_owned(), "install".to_owned())]);
    well.has("inference", "ok", &["openai-chat at Service ai-llm", "streamed"]);
    well.has("inference", "ok", &["ollama at Service ai-ollama", workloads::OLLAMA_MODEL]);
    well.has("inference", "ok", &["embeddings", "384 dimensions"]);
    well.has("inference", "ok", &["cache"]);
    let again = platform.deploy(&[]).assert_success().parse_json();
    assert_eq!(done(&again), [("ai".to_owned(), "none".to_owned())], "{again:#}");
    let loaded = platform.load();
    for place in 0..3 {
        assert_eq!(loaded["targets"][place]["models"][0]["outcome"], "present", "{loaded:#}");
    }
}

#[test]
fn two_model_servers_share_one_claim_or_have_one_each_and_both_embed() {
    let platform = Platform::new("story-shared");
    let apart = platform.here().reserve_namespace("story-apart");
    let (one, two) = (platform.name(), apart.name());
    platform.has_chart("two-model-servers");
    let check = |release: &str, server: &str| {
        format!(
            "- {{name: {release} {server}, kind: openai-embeddings, release: {release}, \
             service: {release}-{server}-model, expect: {{dimensions: 384}}}}\n"
        )
    };
    let claims = |mode: &str, inference: &str, indexing: &str| {
        format!(
            "persistence: {{mode: {mode}}}\ninferenceCapability: {{existingClaim: {inference}}}\n\
             indexCapability: {{existingClaim: {indexing}}}\n"
        )
    };
    platform.carry(
        &format!(
            "charts:\n\
             - {{chart: ./two-model-servers-1.0.0.tgz, release: shared, namespace: {one}, values: [shared.yaml]}}\n\
             - {{chart: ./two-model-servers-1.0.0.tgz, release: apart, namespace: {two}, values: [apart.yaml]}}\n\
             models: [{{hf: {MODEL}}}]\n\
             wiring:\n  claims:\n\
             \x20 - {{claim: inference-models, containers: [model-server-inference]}}\n\
             \x20 - {{claim: indexing-models, containers: [model-server-indexing]}}\n\
             checks:\n{}{}{}{}",
            check("shared", "inference"),
            check("shared", "indexing"),
            check("apart", "inference"),
            check("apart", "indexing"),
        ),
        &[
            ("shared.yaml", &claims("shared", "models", "models")),
            ("apart.yaml", &claims("separate", "inference-models", "indexing-models")),
        ],
    );
    platform.has_site(&format!(
        "models:\n\
         - {{to: pvc://{one}/models, create: {{accessMode: RWX, storageClass: shared-path}}}}\n\
         - {{to: pvc://{two}/inference-models, create: {{}}}}\n\
         - {{to: pvc://{two}/indexing-models, create: {{}}}}\n"
    ));

    platform.load();
    let deployed = platform.deploy(&[]).assert_success().parse_json();
    let well = platform.is_well(&[]);

    assert_eq!(done(&deployed).len(), 2, "{deployed:#}");
    for server in ["shared inference", "shared indexing", "apart inference", "apart indexing"] {
        well.has("inference", "ok", &[server, MODEL, "384 dimensions"]);
    }
    for namespace in [one, two] {
        let pods = platform.pods(namespace, "");
        assert_eq!(pods.len(), 2, "no seeder stays: {pods:#?}");
        for pod in &pods {
            assert_eq!(variable(pod, "HF_HUB_OFFLINE").as_deref(), Some("1"), "{pod:#?}");
            assert_eq!(variable(pod, "HF_HUB_CACHE").as_deref(), Some("/app/.cache/huggingface"));
        }
    }
}

#[test]
fn real_charts_of_a_database_and_a_cache_come_up_from_the_sites_registry() {
    let platform = Platform::new("story-data");
    let name = platform.name();
    let (sql, kv) = (platform.has_real_chart("postgresql"), platform.has_real_chart("redis"));
    let ours = "global: {security: {allowInsecureImages: true}}\n";
    platform.carry(
        &format!(
            "charts:\n\
             - {{chart: ./{sql}, release: sql, namespace: {name}, values: [sql.yaml]}}\n\
             - {{chart: ./{kv}, release: kv, namespace: {name}, values: [kv.yaml]}}\n\
             checks:\n\
             - {{name: database, kind: tcp, release: sql, service: sql-postgresql}}\n\
             - {{name: cache, kind: tcp, release: kv, service: kv-redis-master}}\n"
        ),
        &[
            ("sql.yaml", &format!("{ours}primary: {{persistence: {{size: 100Mi}}, resourcesPreset: none}}\n")),
            ("kv.yaml", &format!(
                "{ours}architecture: standalone\n\
                 master: {{persistence: {{size: 100Mi}}, resourcesPreset: none, readinessProbe: {{initialDelaySeconds: 1}}}}\n"
            )),
        ],
    );
    platform.has_site("");

    platform.load();
    // The charts come from the registry too: only what was loaded is used.
    let deployed = platform.runs("deploy", &["--pod-security", "restricted", "--timeout", "5m"]);
    let deployed = deployed.assert_success().parse_json();
    let well = platform.is_well(&[]);

    assert_eq!(done(&deployed).len(), 2, "{deployed:#}");
    well.has("running", "ok", &["locked image of the site"]);
    well.has("inference", "ok", &["database", "accepts connections"]);
    well.has("inference", "ok", &["cache", "accepts connections"]);
    let again = platform.runs("deploy", &[]).assert_success().parse_json();
    let nothing = ["sql", "kv"].map(|release| (release.to_owned(), "none".to_owned()));
    assert_eq!(done(&again), nothing, "passwords that a chart makes up stay: {again:#}");
}

#[test]
fn a_worker_of_sie_fills_its_cache_from_the_sites_bucket_and_encodes() {
    let bucket = S3Server::start_at(testkit::TestCluster::from_environment().host());
    let platform = Platform::new("story-sie")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    let name = platform.name();
    platform.has_chart("sie-like");
    platform.carry(
        &format!(
            "charts: [{{chart: ./sie-like-1.0.0.tgz, release: sie, namespace: {name}, values: [sie.yaml]}}]\n\
             models: [{{hf: {MODEL}}}]\n"
        ),
        // The user provides the credentials; everything else is in the bundle.
        &[("sie.yaml", "workers: {common: {extraEnv: [{name: AWS_ACCESS_KEY_ID, value: key}, {name: AWS_SECRET_ACCESS_KEY, value: secret}]}}\n")],
    );
    let (to, url) = (format!("s3://{}/sie", S3Server::BUCKET), bucket.url());
    platform.has_site(&format!(
        "models: [{{to: '{to}', layout: sie, endpoint: '{url}', plainHttp: true}}]\n"
    ));

    let media = platform.media();
    let push = [
        "models",
        "push",
        &media,
        "--to",
        &to,
        "--layout",
        "sie",
        "--endpoint",
        &url,
        "--plain-http",
    ];
    platform.inside().run(push).assert_success();
    let loaded = platform.load();
    platform.deploy(&[]).assert_success();
    let well = platform.is_well(&[]);

    assert_eq!(loaded["targets"][0]["models"][0]["outcome"], "present", "{loaded:#}");
    well.has("models", "ok", &[]);
    well.has("inference", "ok", &["sie-encode", MODEL, "384 dimensions"]);
    let pods = platform.pods(name, "");
    for (variable_name, value) in
        [("SIE_CLUSTER_CACHE", to), ("AWS_ENDPOINT_URL", url), ("HF_HUB_OFFLINE", "1".into())]
    {
        assert_eq!(variable(&pods[0], variable_name), Some(value), "{pods:#?}");
    }
}

#[test]
fn a_load_into_claims_that_is_killed_ten_times_comes_to_the_same_end() {
    let platform = Platform::new("story-kill");
    let name = platform.name();
    platform.carry(&format!("models: [{{hf: {MODEL}}}]\n"), &[]);
    let place = |claim: u64| format!("- {{to: 'pvc://{name}/models-{claim}', create: {{}}}}\n");
    platform.has_site(&format!("models:\n{}", place(0)));
    let started = Instant::now();
    platform.load();
    let whole = u64::try_from(started.elapsed().as_millis()).unwrap();
    let (random, media) = (RandomState::new(), platform.media());

    // The claim being written. A load that finishes it before being killed continues with the next.
    let mut claim = 1;
    for kill in 0..KILLS {
        platform.has_site(&format!("models:\n{}", place(claim)));
        let instant = Duration::from_millis(random.hash_one(kill) % whole);
        let started = Instant::now();
        let mut running = platform.inside().start(["load", "--site", "site.yaml", &media]);
        while running.is_running() && started.elapsed() < instant {
            std::thread::yield_now();
        }
        let is_killed = running.is_running();
        running.kill();
        claim += u64::from(!is_killed);
    }
    let places: String = (0..=claim).map(place).collect();
    platform.has_site(&format!("models:\n{places}"));
    platform.load();

    for claim in 0..=claim {
        let claim = format!("pvc://{name}/models-{claim}");
        let verify = ["models", "verify", &claim, "--site", "site.yaml", "--output", "json"];
        let verified = platform.inside().run(verify).assert_success().parse_json();
        assert_eq!(verified["targets"][0]["damagedFiles"], serde_json::json!([]), "{verified:#}");
    }
    assert!(platform.pods(name, "").is_empty(), "no seeder stays");
    let again = platform.load();
    let puts =
        again["targets"].as_array().unwrap().iter().map(|place| &place["models"][0]["outcome"]);
    assert!(puts.clone().all(|put| put == "present"), "{again:#}");
}

#[test]
fn a_deployed_chart_that_phones_home_is_caught_and_a_quiet_one_is_not() {
    let platform = Platform::new("story-curious");
    let quiet = platform.here().reserve_namespace("story-quiet");
    let (loud, quiet) = (platform.name(), quiet.name());
    platform.has_chart("phones-home");
    platform.has_chart("quiet");
    platform.carry(
        &format!(
            "charts:\n\
             - {{chart: ./phones-home-1.0.0.tgz, release: curious, namespace: {loud}}}\n\
             - {{chart: ./quiet-1.0.0.tgz, release: quiet, namespace: {quiet}}}\n"
        ),
        &[],
    );
    platform.has_site("");
    platform.load();
    platform.deploy(&[]).assert_success();
    let audit = |namespace: &str| {
        let words = [
            "audit",
            "--site",
            "site.yaml",
            "--namespace",
            namespace,
            "--soak",
            "15s",
            "--report",
            "out",
        ];
        let output = platform.inside().run(words);
        let report: Value =
            serde_json::from_str(&platform.inside().read_file("out/audit.json")).unwrap();
        (output, report)
    };

    let _turn = support::take_audit_turn();
    let (caught, report) = audit(loud);
    let (clean, clean_report) = audit(quiet);

    caught.assert_exit_code(3);
    assert_eq!(report["verdict"], "tried");
    let attempts = report["attempts"].as_array().unwrap();
    for to in ["telemetry.example.com", "203.0.113.7:443 tcp"] {
        let found = attempts.iter().find(|tried| tried["to"] == to);
        let found = found.unwrap_or_else(|| panic!("no attempt to {to}: {report:#}"));
        assert_eq!(found["workload"]["kind"], "Deployment", "{found:#}");
        let pod = found["pods"][0].as_str().unwrap();
        assert!(pod.starts_with(&format!("{loud}/curious")), "{found:#}");
    }
    clean.assert_success();
    assert_eq!(clean_report["verdict"], "quiet", "{clean_report:#}");
}

/// The value of a variable of a pod's first container.
fn variable(pod: &Pod, name: &str) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let all = containers.first()?.env.as_ref()?;
    all.iter().find(|variable| variable.name == name)?.value.clone()
}
