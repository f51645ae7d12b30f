//! Imports what is already on this machine: images from archives, OCI layouts and container
//! engines; models from caches, folders and images. Each function verifies the content while it
//! writes it to a [`store::Store`], and returns what a lock needs. All but
//! [`import_image_from_engine`] block on the disk: call them on a thread that may block.

mod archive;
mod docker_save;
mod engine;
mod folder;
mod hf_cache;
mod image;
mod image_fs;
mod layout;
mod lfs;
mod ollama;
mod tree;

pub use engine::image_from_engine;
pub use folder::model_from_folder;
pub use hf_cache::model_from_cache;
pub(crate) use image::locked;
pub use image::{Image, image_from_archive, image_from_layout};
pub use image_fs::models_from_image;
pub use ollama::model_from_ollama_folder;
