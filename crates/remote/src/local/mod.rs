//! What is already on the machine: images in archives, layouts and engines; models in caches,
//! folders and inside images. Everything here ends in a [`store::Store`], verified on the way, and
//! in the documents that name it. All calls block on a disk (or, for an engine's socket, on a
//! socket of this machine): run them on a thread that may block.

mod archive;
mod docker_save;

mod folder;
mod hf_cache;
mod image;
mod image_fs;
mod layout;
mod lfs;
mod ollama;
mod tree;


pub use folder::model_from_folder;
pub use hf_cache::model_from_cache;
pub use image::{Image, image_from_archive, image_from_layout};
pub use image_fs::models_from_image;
pub use ollama::model_from_ollama_folder;
