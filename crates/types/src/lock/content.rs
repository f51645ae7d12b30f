//! What a lock asks for: every blob with the place its bytes come from, and the roots that the blobs
//! make up. `fetch` downloads the first list, `pack` and `serve` publish the second.

use super::{Blob, EMPTY, HubModel, Lock, Manifest, Model, ModelFile, OllamaModel};
use crate::{Commit, Descriptor, Kind, ModelId, Reference, Root, annotation, media_type};

/// Where the bytes of a locked blob come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A manifest in a registry.
    Manifest(&'a Reference),
    /// A config or layer in a registry.
    Blob(&'a Reference),
    /// A manifest or layer in the Ollama registry, which is not quite an OCI registry and has a
    /// client of its own.
    Ollama(&'a OllamaModel),
    /// A file on the Hub.
    Hub {
        /// The model.
        model: &'a HubModel,
        /// The file.
        file: &'a ModelFile,
    },
    /// A URL.
    Url(&'a str),
    /// A file of the machine on which `gantry lock` ran, or a document made from the lock itself.
    /// `gantry lock` put it into the store; `fetch` reads or makes it again where it is missing.
    Local,
}

/// A blob of the lock, with its origin and the root that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    /// The blob.
    pub blob: Blob,
    /// Where its bytes come from.
    pub origin: Origin<'a>,
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
                Kind::Chart,
                chart.manifest.descriptor(),
            ));
        }
        for image in &self.images {
            let descriptor = Descriptor::new(&image.media_type, image.digest, image.size);
            roots.push(Root::new(image.reference.clone(), Kind::Image, descriptor));
            for attached in &image.attached {
                let mut descriptor = attached.manifest.descriptor();
                descriptor.artifact_type.clone_from(&attached.artifact_type);
                roots.push(Root::new(attached.reference.clone(), Kind::Attached, descriptor));
            }
        }
        roots.extend(self.models.iter().map(Model::root));
        roots.extend(
            self.files.iter().map(|file| Root::file(&file.reference, file.manifest, &file.title)),
        );
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        // Two images can have the same signature or SBOM, which is listed with both.
        roots.dedup_by(|a, b| a.name == b.name);
        roots
    }

    /// Every blob that the roots need, manifests included; a blob of several roots comes several
    /// times.
    pub fn content(&self) -> Vec<Content<'_>> {
        let mut all = Vec::new();
        for chart in &self.charts {
            let from_registry = chart.chart.starts_with("oci://");
            push_manifest(&mut all, &chart.reference, &chart.manifest, from_registry);
        }
        for image in &self.images {
            let from_registry = image.from.is_none();
            let owner = &image.reference;
            let origin = if from_registry { Origin::Manifest(owner) } else { Origin::Local };
            // The index itself, or the manifest of an image without an index; the latter comes twice.
            let blob = Blob { digest: image.digest, size: image.size };
            all.push(Content { blob, origin, owner });
            for manifest in &image.manifests {
                push_manifest(&mut all, owner, manifest, from_registry);
            }
            for attached in &image.attached {
                push_manifest(&mut all, &attached.reference, &attached.manifest, from_registry);
            }
        }
        for model in &self.models {
            model.push_content(&mut all);
        }
        for file in &self.files {
            for blob in [file.content, file.manifest, EMPTY] {
                all.push(Content { blob, origin: Origin::Local, owner: &file.reference });
            }
        }
        all
    }
}

fn push_manifest<'a>(
    all: &mut Vec<Content<'a>>,
    owner: &'a Reference,
    manifest: &'a Manifest,
    from_registry: bool,
) {
    let origin = |remote: Origin<'a>| if from_registry { remote } else { Origin::Local };
    all.push(Content { blob: manifest.blob(), origin: origin(Origin::Manifest(owner)), owner });
    for blob in manifest.blobs() {
        all.push(Content { blob, origin: origin(Origin::Blob(owner)), owner });
    }
}

impl Model {
    /// The name of the model as an OCI artifact.
    pub fn reference(&self) -> &Reference {
        match self {
            Self::Hub(model) => &model.reference,
            Self::Ollama(model) => &model.reference,
            Self::Url(model) => &model.reference,
        }
    }

    fn root(&self) -> Root {
        match self {
            Self::Hub(model) => Root::model(
                &model.reference,
                model.manifest,
                &model.hf,
                &model.commit,
                &model.revision,
            ),
            Self::Ollama(model) => {
                Root::new(model.reference.clone(), Kind::Ollama, model.manifest.descriptor())
            }
            Self::Url(model) => Root::file(&model.reference, model.manifest, &model.title),
        }
    }

    fn push_content<'a>(&'a self, all: &mut Vec<Content<'a>>) {
        let owner = self.reference();
        let mut push = |blob, origin| all.push(Content { blob, origin, owner });
        match self {
            Self::Hub(model) => {
                push(model.manifest, Origin::Local);
                // Manifest and config are made from the lock's entry, so there is nothing to download.
                push(model.config, Origin::Local);
                for file in &model.files {
                    let blob = Blob { digest: file.digest, size: file.size };
                    let origin = match model.from {
                        None => Origin::Hub { model, file },
                        Some(_) => Origin::Local,
                    };
                    push(blob, origin);
                }
            }
            Self::Ollama(model) => {
                let origin = || match model.from {
                    None => Origin::Ollama(model),
                    Some(_) => Origin::Local,
                };
                push(model.manifest.blob(), origin());
                for blob in model.manifest.blobs() {
                    push(blob, origin());
                }
            }
            Self::Url(model) => {
                push(model.manifest, Origin::Local);
                push(EMPTY, Origin::Local);
                push(model.content, Origin::Url(&model.url));
            }
        }
    }
}

impl Root {
    /// The root of a Hugging Face snapshot.
    pub fn model(
        name: &Reference,
        manifest: Blob,
        id: &ModelId,
        commit: &Commit,
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
        Self::new(name.clone(), Kind::Model, descriptor)
    }

    /// The root of a plain file.
    pub fn file(name: &Reference, manifest: Blob, title: &str) -> Self {
        let mut descriptor =
            Descriptor::new(media_type::OCI_MANIFEST, manifest.digest, manifest.size);
        descriptor.artifact_type = Some(media_type::GANTRY_FILE.to_owned());
        descriptor.annotations.insert(annotation::TITLE.to_owned(), title.to_owned());
        Self::new(name.clone(), Kind::File, descriptor)
    }
}
