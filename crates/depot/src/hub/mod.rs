//! The Hugging Face endpoint: ten routes of the Hub, without redirects and never compressed, tested
//! with huggingface_hub 0.23 to 2.4, hf-hub and llama.cpp (`tests/hub.rs`).
//!
//! A repository's id has one or two segments (`gpt2`, `BAAI/bge-m3`), so a path is split at its
//! literal parts (`/resolve/`, `/tree/`…). It is split first and percent-decoded after that, since
//! a `/` in a revision is written `%2F`.

mod files;
mod llama_cpp;
mod metadata;
mod model_at_commit;
mod routes;

pub(crate) use llama_cpp::answer_llama_manifest;
pub(crate) use routes::{handle_api, handle_files};
