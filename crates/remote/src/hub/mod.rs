//! A client of the Hugging Face Hub. It sends the requests that the Python library huggingface_hub
//! (2.4) sends, so it also works with mirrors that are made for that library: which commit a
//! revision is, which files it has, and where each of them is downloaded from.

mod client;
mod dependencies;
mod filter;
mod refusal;
mod revision;
mod snapshot;
mod token;

pub use client::HubClient;
pub use dependencies::{
    MAX_CONFIGURATION, ModelDependency, find_dependencies, list_configurations,
};
pub use filter::ModelFileFilter;
pub use revision::{ModelRevision, ModelRevisionFile};
