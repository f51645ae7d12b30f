//! What is already on the machine: images in archives, layouts and engines; models in caches,
//! folders and inside images. Everything here ends in a [`store::Store`], verified on the way, and
//! in the documents that name it. All but [`image_from_engine`] block on a disk: run them on a
//! thread that may block.

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
