//! The whole way with real parts, in the words of a user: lock, fetch and pack on the outside, then
//! load, deploy and check on the inside, one command each; and what was brought answers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod story;

use story::platform::{Platform, beside, done};
use testkit::workloads;

/// The small model as people would name it.
const TINY: &str = "example/gantry-tiny";

#[test]
fn a_platform_of_chat_embeddings_and_ollama_comes_in_and_answers_with_one_command_each() {
    let platform = Platform::new("story-platform");
    let name = platform.name();
    platform.has_chart("umbrella");
    let gguf = beside(platform.folder(), "gguf/gantry-tiny.gguf");
    std::fs::copy(workloads::gguf(), gguf).unwrap();
    workloads::ollama(&platform.folder().join("ollama"));
    platform.carry(
        &format!(
            "charts: [{{chart: ./umbrella-1.0.0.tgz, release: ai, namespace: {name}, values: [values.yaml]}}]\n\
             models:\n\
             - hf: sentence-transformers/all-MiniLM-L6-v2\n\
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
         - {{to: pvc://{name}/hub, models: [sentence-transformers/all-MiniLM-L6-v2], \
         create: {{accessMode: RWX, storageClass: shared-path}}}}\n\
         - {{to: pvc://{name}/llms, layout: flat, models: [{TINY}], create: {{}}}}\n\
         - {{to: pvc://{name}/ollama, layout: ollama, create: {{}}}}\n"
    ));

    let loaded = platform.load();
    let first = platform.deploy(&[]).success().json();
    let well = platform.is_well(&[]);

    for place in 0..3 {
        assert_eq!(loaded["models"][place]["isMade"], true, "{loaded:#}");
        assert_eq!(loaded["models"][place]["via"], "registry", "{loaded:#}");
    }
    assert_eq!(done(&first), [("ai".to_owned(), "install".to_owned())]);
    well.has("inference", "ok", &["openai-chat at Service ai-llm", "streamed"]);
    well.has("inference", "ok", &["ollama at Service ai-ollama", workloads::OLLAMA_MODEL]);
    well.has("inference", "ok", &["embeddings", "384 dimensions"]);
    well.has("inference", "ok", &["cache"]);
    let again = platform.deploy(&[]).success().json();
    assert_eq!(done(&again), [("ai".to_owned(), "none".to_owned())], "{again:#}");
    let loaded = platform.load();
    for place in 0..3 {
        assert_eq!(loaded["models"][place]["models"][0]["put"], "present", "{loaded:#}");
    }
}
