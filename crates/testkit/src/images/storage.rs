//! Images as docker-registry's file system driver keeps them (distribution 2.8,
//! registry/storage/paths.go): blobs by digest, and in each repository links to what it has.

use std::path::Path;
use std::{fs, io};

use types::Digest;

use super::image_set::{TestImage, TestImages};

impl TestImages {
    /// Places the set into the storage folder of a docker-registry, under its repositories' paths
    /// without their hosts, by hard links where the disk allows: what a push of each would leave
    /// there, in an instant and on no space. For [`crate::TestRegistryBuilder::storage`]; a running
    /// registry finds it as well.
    pub fn place_in_storage(&self, storage: &Path) {
        for image in &self.images {
            place_image(self, image, storage);
        }
    }
}

/// Places one image below a driver's root directory.
fn place_image(images: &TestImages, image: &TestImage, storage: &Path) {
    let root = storage.join("docker/registry/v2");
    let repository = root.join("repositories").join(image.repository());
    for digest in image.blobs.keys() {
        place_blob(images, digest, &root);
        write_link(&repository.join("_layers/sha256").join(digest.hex()), digest);
    }
    for document in &image.manifests {
        let digest = &document.digest;
        place_blob(images, digest, &root);
        write_link(&repository.join("_manifests/revisions/sha256").join(digest.hex()), digest);
        if let Some(tag) = &document.tag {
            let tag = repository.join("_manifests/tags").join(tag);
            write_link(&tag.join("current"), digest);
            write_link(&tag.join("index/sha256").join(digest.hex()), digest);
        }
    }
}

fn place_blob(images: &TestImages, digest: &Digest, root: &Path) {
    let hex = digest.hex();
    let folder = root.join("blobs/sha256").join(&hex[..2]).join(&hex);
    fs::create_dir_all(&folder).expect("a registry's folder can be made");
    let (from, to) = (images.blob_path(digest), folder.join("data"));
    match fs::hard_link(&from, &to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // Another file system (a tmpfs): a copy.
        Err(_) => {
            fs::copy(&from, &to).expect("a blob can be copied");
        }
        Ok(()) => {}
    }
}

fn write_link(folder: &Path, digest: &Digest) {
    fs::create_dir_all(folder).expect("a registry's folder can be made");
    fs::write(folder.join("link"), digest.to_string()).expect("a registry's link can be written");
}
