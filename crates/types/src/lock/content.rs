//! What a lock asks for: every blob with the place its bytes come from, and the roots that the blobs
//! make up. `fetch` downloads the first list, `pack` and `serve` publish the second.

use super::document::{
    Blob, EMPTY, Lock, LockedHubModel, LockedManifest, LockedModel, LockedModelFile,
    LockedOllamaModel,
};
use crate::{CommitId, Descriptor, ModelId, Reference, Root, RootKind, annotation, media_type};

/// Where the bytes of a locked blob come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobOrigin<'a> {
    /// A manifest in a registry.
    Manifest(&'a Reference),
    /// A config or layer in a registry.
    Blob(&'a Reference),
    /// A layer that the registry may not have.
    ForeignLayer {
        /// The image.
        reference: &'a Reference,
        /// Where else it can be downloaded.
        urls: &'a [String],
    },
    /// A manifest or layer in the Ollama registry, which is not quite an OCI registry and has a
    /// client of its own.
    Ollama(&'a LockedOllamaModel),
    /// A file on the Hub.
    Hub {
        /// The model.
        model: &'a LockedHubModel,
        /// The file.
        file: &'a LockedModelFile,
    },
    /// A URL.
    Url(&'a str),
    /// A file of the machine on which `gantry lock` ran, or a document made from the lock itself.
    /// `gantry lock` put it into the store; `fetch` reads or makes it again where it is missing.
    Local,
}

/// A blob of the lock, with its origin and the root that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedBlob<'a> {
    /// The blob.
    pub blob: Blob,
    /// Where its bytes come from.
    pub origin: BlobOrigin<'a>,
    /// The name of the root that it belongs to.
    pub owner: &'a Reference,
}

impl Lock {
    /// All roots, sorted by name, each once.
    pub fn roots(&self) -> Vec<Root> {
        let mut roots: Vec<Root> = Vec::new();
        for chart in &self.charts {
            roots.push(Root::new(
                chart.reference.clone(),
                RootKind::Chart,
                chart.manifest.to_descriptor(),
            ));
        }
        for image in &self.images {
            let descriptor = Descriptor::new(&image.media_type, image.digest, image.size);
            roots.push(Root::new(image.reference.clone(), RootKind::Image, descriptor));
            for attached in &image.attached {
                let mut descriptor = attached.manifest.to_descriptor();
                descriptor.artifact_type.clone_from(&attached.artifact_type);
                roots.push(Root::new(attached.reference.clone(), RootKind::Attached, descriptor));
            }
        }
        roots.extend(self.models.iter().map(LockedModel::to_root));
        roots.extend(
            self.files
                .iter()
                .map(|file| Root::for_file(&file.reference, file.manifest, &file.title)),
        );
        roots.extend(
            self.manifests
                .iter()
                .map(|set| Root::for_manifests(&set.reference, set.manifest, &set.release)),
        );
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        // Two images can have the same signature or SBOM, which is listed with both.
        roots.dedup_by(|a, b| a.name == b.name);
        roots
    }

    /// Every blob that the roots need, manifests included; a blob of several roots comes several
    /// times.
    pub fn blobs(&self) -> Vec<LockedBlob<'_>> {
        let mut all = Vec::new();
        for chart in &self.charts {
            let from_registry = chart.chart.starts_with("oci://") || chart.from.is_some();
            push_manifest(&mut all, &chart.reference, &chart.manifest, from_registry);
        }
        for image in &self.images {
            let from_registry = image.from.is_none();
            let owner = &image.reference;
            let origin =
                if from_registry { BlobOrigin::Manifest(owner) } else { BlobOrigin::Local };
            // The index itself, or the manifest of an image without an index; the latter comes twice.
            let blob = Blob { digest: image.digest, size: image.size };
            all.push(LockedBlob { blob, origin, owner });
            for index in &image.indexes {
                push_manifest(&mut all, owner, index, from_registry);
            }
            for manifest in &image.manifests {
                push_manifest(&mut all, owner, manifest, from_registry);
            }
            for attached in &image.attached {
                push_manifest(&mut all, &attached.reference, &attached.manifest, from_registry);
            }
        }
        for model in &self.models {
            model.push_blobs(&mut all);
        }
        for set in &self.manifests {
            for blob in [set.content, set.manifest, EMPTY] {
                all.push(LockedBlob { blob, origin: BlobOrigin::Local, owner: &set.reference });
            }
        }
        for file in &self.files {
            for blob in [file.content, file.manifest, EMPTY] {
                all.push(LockedBlob { blob, origin: BlobOrigin::Local, owner: &file.reference });
            }
        }
        all
    }
}

fn push_manifest<'a>(
    all: &mut Vec<LockedBlob<'a>>,
    owner: &'a Reference,
    manifest: &'a LockedManifest,
    from_registry: bool,
) {
    let origin = |remote: BlobOrigin<'a>| if from_registry { remote } else { BlobOrigin::Local };
    all.push(LockedBlob {
        blob: manifest.to_blob(),
        origin: origin(BlobOrigin::Manifest(owner)),
        owner,
    });
    for blob in manifest.blobs() {
        let remote = match manifest.layer_urls.get(&blob.digest) {
            Some(urls) => BlobOrigin::ForeignLayer { reference: owner, urls },
            None => BlobOrigin::Blob(owner),
        };
        all.push(LockedBlob { blob, origin: origin(remote), owner });
    }
}

impl LockedModel {
    /// The name of the model as an OCI artifact.
    pub fn reference(&self) -> &Reference {
        match self {
            Self::Hub(model) => &model.reference,
            Self::Ollama(model) => &model.reference,
            Self::Url(model) => &model.reference,
        }
    }

    fn to_root(&self) -> Root {
        match self {
            Self::Hub(model) => Root::for_model(
                &model.reference,
                model.manifest,
                &model.hf,
                &model.commit,
                &model.revision,
            ),
            Self::Ollama(model) => {
                Root::new(model.reference.clone(), RootKind::Ollama, model.manifest.to_descriptor())
            }
            Self::Url(model) => Root::for_file(&model.reference, model.manifest, &model.title),
        }
    }

    fn push_blobs<'a>(&'a self, all: &mut Vec<LockedBlob<'a>>) {
        let owner = self.reference();
        let mut push = |blob, origin| all.push(LockedBlob { blob, origin, owner });
        match self {
            Self::Hub(model) => {
                push(model.manifest, BlobOrigin::Local);
                // Manifest and config are made from the lock's entry, so there is nothing to download.
                push(model.config, BlobOrigin::Local);
                for file in &model.files {
                    let blob = Blob { digest: file.digest, size: file.size };
                    let origin = match model.from {
                        None => BlobOrigin::Hub { model, file },
                        Some(_) => BlobOrigin::Local,
                    };
                    push(blob, origin);
                }
            }
            Self::Ollama(model) => {
                let origin = || match model.from {
                    None => BlobOrigin::Ollama(model),
                    Some(_) => BlobOrigin::Local,
                };
                push(model.manifest.to_blob(), origin());
                for blob in model.manifest.blobs() {
                    push(blob, origin());
                }
            }
            Self::Url(model) => {
                push(model.manifest, BlobOrigin::Local);
                push(EMPTY, BlobOrigin::Local);
                push(model.content, BlobOrigin::Url(&model.url));
            }
        }
    }
}

impl Root {
    /// The root of a Hugging Face snapshot.
    pub fn for_model(
        name: &Reference,
        manifest: Blob,
        id: &ModelId,
        commit: &CommitId,
        revision: &str,
    ) -> Self {
        let mut descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, manifest.digest, manifest.size);
        descriptor.artifact_type = Some(media_type::MODEL_MANIFEST.to_owned());
        for (key, value) in [
            (annotation::MODEL_ID, id.as_str()),
            (annotation::MODEL_COMMIT, commit.as_str()),
            (annotation::MODEL_REVISION, revision),
        ] {
            descriptor.annotations.insert(key.to_owned(), value.to_owned());
        }
        Self::new(name.clone(), RootKind::Model, descriptor)
    }

    /// The root of a set of plain manifests.
    pub fn for_manifests(name: &Reference, manifest: Blob, release: &str) -> Self {
        let mut descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, manifest.digest, manifest.size);
        descriptor.artifact_type = Some(media_type::GANTRY_MANIFESTS.to_owned());
        descriptor.annotations.insert(annotation::TITLE.to_owned(), format!("{release}.yaml"));
        Self::new(name.clone(), RootKind::Manifests, descriptor)
    }

    /// The root of a plain file.
    pub fn for_file(name: &Reference, manifest: Blob, title: &str) -> Self {
        let mut descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, manifest.digest, manifest.size);
        descriptor.artifact_type = Some(media_type::GANTRY_FILE.to_owned());
        descriptor.annotations.insert(annotation::TITLE.to_owned(), title.to_owned());
        Self::new(name.clone(), RootKind::File, descriptor)
    }
}
