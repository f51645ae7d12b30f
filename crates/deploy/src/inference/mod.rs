//! First inference: sends one real request to a model server and judges its answer. It needs only a
//! base address; the caller provides the connection (a port forward, or a URL).
//!
//! Data flow: [`recognise`] finds out which protocol a pod serves, an [`InferenceProbe`] describes
//! the request, [`run_probe`] sends it with the file of that protocol, and the result is an
//! [`InferenceAnswer`] or an [`InferenceFailure`]. `check::infer` is the caller.

mod ask;
mod kserve;
mod ollama;
mod openai;
mod plain;
mod probe;
pub mod recognise;
mod run;
mod sie;
mod tei;
mod vector;

pub use ask::InferenceFailure;
pub use probe::{InferenceProbe, ServerConnection};
pub use run::{InferenceAnswer, build_client, run_probe};
