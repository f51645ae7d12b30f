//! Gives what was carried back as ordinary files: images as archives, charts, files, models.
//!
//! ```text
//! Source ──roots──▶ choose (names, globs) ──▶ plan (which blob goes to which file)
//!                   ──▶ inspect (what is there) ──▶ write (verified, staged, one rename for each item)
//! ```
//!
//! | root | becomes |
//! |---|---|
//! | image | `nginx-1.25.tar`: an OCI archive that is a `docker save` archive as well |
//! | signature, SBOM, other artifact | `nginx-sha256-….sig.tar`: an OCI archive |
//! | chart | `app-1.2.3.tgz`, and `app-1.2.3.tgz.prov` where there is one |
//! | Hugging Face snapshot | `org/name/`: a folder of its files |
//! | Ollama model | `qwen2.5-3b/`: a folder for `OLLAMA_MODELS` |
//! | file, model from a URL | the file under its own name |
//!
//! Nothing that is there is overwritten unless that is asked for, and no link is followed in the folder.

mod error;
mod image_archive;
mod plan;
mod selection;
mod state;
mod write;

pub use error::{Error, Result};
pub use plan::{ExtractItem, ExtractPlan, plan_extract};
pub use selection::ExtractSelection;
pub use state::ItemState;
pub use write::{OverwritePolicy, write_items};
