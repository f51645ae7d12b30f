//! Imports what is already on this machine: images from archives, OCI layouts and container
//! engines; models from caches, folders and images. Each function verifies the content while it
//! writes it to a [`store::Store`], and returns what a lock needs. All but
//! [`import_image_from_engine`] block on the disk: call them on a thread that may block.

mod archive;
mod docker_save;
mod engine;
mod folder;
mod hf_cache;
mod image_fs;
mod imported_image;
mod layout;
mod layout_images;
mod lfs;
mod local_images;
mod ollama;
mod tree;

pub use engine::import_image_from_engine;
pub use folder::import_model_from_folder;
pub use hf_cache::import_model_from_cache;
pub use image_fs::import_models_from_image;
pub use imported_image::ImportedImage;
pub use local_images::LocalImages;
pub use ollama::import_model_from_ollama_folder;
