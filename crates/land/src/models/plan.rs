//! Plans the files of models: which blob goes to which path, by the layout that the runtime expects.
//! Only manifests are read for it.
//!
//! | layout | of | paths |
//! |---|---|---|
//! | `hf-cache` | Hugging Face | `models--org--name/{blobs,snapshots/<commit>,refs}`, links or files |
//! | `sie` | Hugging Face | the same with plain files, for SIE's `clusterCache.url` |
//! | `flat` | Hugging Face | `org/name/<path>` |
//! | `flat` | URL, file | the file's own name |
//! | `ollama` | Ollama | `manifests/<host>/<model>/<tag>`, `blobs/sha256-<hex>` |
//!
//! The first is described by huggingface_hub's guide "Understand caching", the last is what `ollama`
//! itself writes into the folder `OLLAMA_MODELS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::Source;
use types::carried_file::CarriedFile;
use types::site::{CacheFileStyle as Files, ModelLayout};
use types::snapshot::{Snapshot, check_model_path};
use types::{Descriptor, Digest, Manifest, ModelId, Root, RootKind};

use super::model_name::ModelName;
use super::unfit_model::UnfitModel;
use super::{Error, Result};

/// Which models of a source are written, and in which layout.
#[derive(Debug, Clone, Default)]
pub struct ModelSelection {
    /// Models as [`ModelName::is_called`] takes them; all models of the source when empty.
    pub names: Vec<String>,
    /// The layout.
    pub layout: ModelLayout,
    /// Whether the layout `hf-cache` has links to blobs, or plain files.
    pub files: Files,
    /// What happens to models that the layout cannot hold.
    pub unfit: UnfitModelPolicy,
}

/// What happens to models that the layout cannot hold although nobody named them, and to named ones
/// that the source does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnfitModelPolicy {
    /// It is an error where nothing is left to write: right for a command with one target, which the user
    /// has chosen.
    #[default]
    Refused,
    /// They are left out: a site has several targets, and not every source has all models.
    LeftOut,
}

/// The plans of the selected models, and what the layout cannot hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlannedModels {
    /// The models that are written.
    pub plans: Vec<ModelPlan>,
    /// Models and files that nobody named and that the layout cannot hold.
    pub left_out: Vec<UnfitModel>,
    /// Names that were asked for and that the source does not have.
    pub missing: Vec<String>,
}

/// A model in its layout: all paths that it will have, relative to the folder or bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// Its name with its revision: `BAAI/bge-m3@<commit>`, or an Ollama model's reference.
    pub name: String,
    /// Files whose path is made from their digest or git id. No reader lists them, so they may appear
    /// one by one, before everything else.
    pub contents: BTreeMap<PathBuf, FileContent>,
    /// Files under their own names, which others may use as well: one of another content that Gantry did
    /// not write is refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<PathBuf, FileContent>,
    /// The folder that readers look for; it appears at once, with all that is in it.
    pub folder: Option<ModelFolder>,
    /// Small files that point to the model (a branch, a manifest), written last, in this order.
    pub pointers: Vec<(PathBuf, Vec<u8>)>,
}

/// The content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileContent {
    /// Its sha256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The folder of a model, with its files and links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFolder {
    /// Its path.
    pub path: PathBuf,
    /// Its files.
    pub files: BTreeMap<PathBuf, FileContent>,
    /// Its symbolic links, with their targets as they are written.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Whether its path names one revision, or the model in any revision.
    pub identity: FolderIdentity,
}

/// What the path of a model's folder names. It decides what happens to files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderIdentity {
    /// One commit: whatever is there belongs to the same commit, and is kept.
    Commit,
    /// The model in any revision: one that Gantry wrote is replaced, files of others are refused.
    Model,
}

impl ModelPlan {
    /// Every file whose content is a blob, those in the folder included.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, FileContent)> + '_ {
        let own = self.contents.iter().chain(&self.named);
        let own = own.map(|(path, content)| (path.clone(), *content));
        let folder = self.folder.iter().flat_map(|folder| {
            folder.files.iter().map(|(path, content)| (folder.path.join(path), *content))
        });
        own.chain(folder)
    }

    /// The same model without symbolic links: each is the file that it leads to.
    #[must_use]
    pub fn with_plain_files(&self) -> Self {
        let mut plan = self.clone();
        let Some(folder) = &mut plan.folder else { return plan };
        for (path, to) in std::mem::take(&mut folder.links) {
            let target = resolve_link(&folder.path.join(&path), &to);
            if let Some(content) = self.contents.get(&target) {
                folder.files.insert(path, *content);
                plan.contents.remove(&target);
            }
        }
        plan
    }

    /// The size of all these files together, in bytes.
    pub fn size(&self) -> u64 {
        self.files().map(|(_, content)| content.size).sum()
    }
}

/// The path that a relative link leads to, by its text alone.
pub(super) fn resolve_link(link: &Path, to: &Path) -> PathBuf {
    let mut at = link.parent().map(PathBuf::from).unwrap_or_default();
    for part in to.components() {
        match part {
            std::path::Component::ParentDir => drop(at.pop()),
            part => at.push(part),
        }
    }
    at
}

/// Plans the selected models of a source. That there are none is an error, unless models that do not
/// fit are left out. Blocks on the disk.
pub fn plan_models(source: &dyn Source, choice: &ModelSelection) -> Result<PlannedModels> {
    let mut planned = PlannedModels::default();
    let mut known = Vec::new();
    let mut missing: Vec<&String> = choice.names.iter().collect();
    for root in source.roots()?.into_iter().filter(is_model_root) {
        let bytes = store::read_blob(source, &root.descriptor.digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let Some(name) = ModelName::from_root(&root, &manifest) else { continue };
        known.push(name.short_name());
        if !choice.names.is_empty() && !choice.names.iter().any(|text| name.is_called(text)) {
            continue;
        }
        missing.retain(|text| !name.is_called(text));
        match plan_model(&root, &manifest, bytes, choice) {
            Err(Error::Layout { name, reason, .. }) if choice.names.is_empty() => {
                planned.left_out.push(UnfitModel { name, reason: reason.to_owned() });
            }
            plan => planned.plans.push(plan?),
        }
    }
    check_names_differ(&planned.plans)?;
    planned.missing = missing.into_iter().cloned().collect();
    if choice.unfit == UnfitModelPolicy::LeftOut {
        return Ok(planned);
    }
    if let Some(name) = planned.missing.first() {
        return Err(Error::NoModel { name: name.clone(), has: known });
    }
    if planned.plans.is_empty() {
        return Err(match planned.left_out.is_empty() {
            true => Error::NoModel { name: "at all".into(), has: known },
            false => Error::NothingFits {
                layout: layout_name(choice.layout),
                left_out: planned.left_out,
            },
        });
    }
    Ok(planned)
}

/// Plans one model, by its kind.
fn plan_model(
    root: &Root,
    manifest: &Manifest,
    bytes: Vec<u8>,
    choice: &ModelSelection,
) -> Result<ModelPlan> {
    if let Some(snapshot) = Snapshot::from_root(root, manifest) {
        return plan_snapshot(&snapshot, choice);
    }
    match CarriedFile::from_root(root, manifest) {
        Some(file) => plan_file(root, &file, choice),
        None => plan_ollama_model(root, manifest, bytes, choice),
    }
}

/// Refuses two files of the same name with different content: one would replace the other.
fn check_names_differ(plans: &[ModelPlan]) -> Result<()> {
    let mut known: BTreeMap<&PathBuf, (&ModelPlan, &FileContent)> = BTreeMap::new();
    for plan in plans {
        for (path, content) in &plan.named {
            match known.insert(path, (plan, content)) {
                Some((other, its)) if its != content => {
                    return Err(Error::SameName {
                        path: path.clone(),
                        names: [other.name.clone(), plan.name.clone()],
                    });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_model_root(root: &Root) -> bool {
    matches!(root.kind, RootKind::Model | RootKind::Ollama | RootKind::File)
}

/// A file under its own name.
fn plan_file(root: &Root, file: &CarriedFile, choice: &ModelSelection) -> Result<ModelPlan> {
    let name = root.name.to_string();
    if choice.layout != ModelLayout::Flat {
        return Err(Error::Layout {
            name,
            layout: layout_name(choice.layout),
            reason: "it is a single file; choose the layout flat",
        });
    }
    let content = FileContent { digest: file.digest, size: file.size };
    Ok(ModelPlan {
        name,
        contents: BTreeMap::new(),
        named: BTreeMap::from([(PathBuf::from(&file.title), content)]),
        folder: None,
        pointers: vec![],
    })
}

fn plan_snapshot(snapshot: &Snapshot, choice: &ModelSelection) -> Result<ModelPlan> {
    // The id is made into paths below: parsing it refuses `..` and the like.
    snapshot.id.parse::<ModelId>()?;
    let name = format!("{}@{}", snapshot.id, snapshot.commit);
    match (choice.layout, choice.files) {
        (ModelLayout::HfCache, files) => Ok(plan_hub_cache(name, snapshot, files)),
        (ModelLayout::Sie, _) => Ok(plan_hub_cache(name, snapshot, Files::Plain)),
        (ModelLayout::Flat, _) => Ok(ModelPlan {
            name,
            contents: BTreeMap::new(),
            named: BTreeMap::new(),
            folder: Some(ModelFolder {
                path: PathBuf::from(&snapshot.id),
                files: snapshot_files(snapshot),
                links: BTreeMap::new(),
                identity: FolderIdentity::Model,
            }),
            pointers: vec![],
        }),
        (ModelLayout::Ollama, _) => Err(Error::Layout {
            name,
            layout: "ollama",
            reason: "it is a Hugging Face snapshot; choose hf-cache, flat or sie",
        }),
    }
}

fn snapshot_files(snapshot: &Snapshot) -> BTreeMap<PathBuf, FileContent> {
    let file = |(path, file): (&String, &types::snapshot::SnapshotFile)| {
        (PathBuf::from(path), FileContent { digest: file.digest, size: file.size })
    };
    snapshot.files.iter().map(file).collect()
}

/// The folder of one model as huggingface_hub's cache has it:
///
/// ```text
/// models--BAAI--bge-m3/blobs/<etag>                        the content
/// models--BAAI--bge-m3/snapshots/<commit>/config.json      a link to ../../blobs/<etag>, or a file
/// models--BAAI--bge-m3/refs/main                           the commit
/// ```
fn plan_hub_cache(name: String, snapshot: &Snapshot, kept: Files) -> ModelPlan {
    let home = PathBuf::from(format!("models--{}", snapshot.id.replace('/', "--")));
    let mut contents = BTreeMap::new();
    let mut links = BTreeMap::new();
    if kept == Files::Links {
        for (path, file) in &snapshot.files {
            let content = FileContent { digest: file.digest, size: file.size };
            contents.insert(home.join("blobs").join(file.etag()), content);
            // One step up for the commit, one for `snapshots`, one for each sub-folder.
            let up = "../".repeat(Path::new(path).components().count() + 1);
            links.insert(PathBuf::from(path), PathBuf::from(format!("{up}blobs/{}", file.etag())));
        }
    }
    // A model may be locked by its commit alone: then it is shown as `main`, which clients ask for by
    // default. A branch becomes a path, so one that leads out of `refs` is not taken either.
    let is_branch =
        |name: &&str| *name != snapshot.commit.as_str() && check_model_path(name).is_ok();
    let revision = snapshot.revision.as_deref().filter(is_branch);
    // No newline behind the commit: huggingface_hub takes the file's whole content for the folder's
    // name, so that with one every offline look-up fails.
    let pointer = (
        home.join("refs").join(revision.unwrap_or("main")),
        snapshot.commit.as_str().as_bytes().to_vec(),
    );
    ModelPlan {
        name,
        contents,
        named: BTreeMap::new(),
        folder: Some(ModelFolder {
            path: home.join("snapshots").join(snapshot.commit.as_str()),
            files: if kept == Files::Plain { snapshot_files(snapshot) } else { BTreeMap::new() },
            links,
            identity: FolderIdentity::Commit,
        }),
        pointers: vec![pointer],
    }
}

/// Ollama's models folder: blobs by digest, and the manifest byte for byte, since its digest is the
/// model's id.
fn plan_ollama_model(
    root: &Root,
    manifest: &Manifest,
    bytes: Vec<u8>,
    choice: &ModelSelection,
) -> Result<ModelPlan> {
    let name = root.name.to_string();
    if choice.layout != ModelLayout::Ollama {
        return Err(Error::Layout {
            name,
            layout: layout_name(choice.layout),
            reason: "it is an Ollama model; choose the layout ollama, or name the models to write with --model",
        });
    }
    let content = |blob: &Descriptor| {
        let path = PathBuf::from("blobs").join(blob.digest.dashed_text());
        (path, FileContent { digest: blob.digest, size: blob.size })
    };
    let contents = manifest.config.iter().chain(&manifest.layers).map(content).collect();
    let tag = root.name.tag().unwrap_or("latest");
    let pointer = Path::new("manifests").join(root.name.registry()).join(root.name.repository());
    Ok(ModelPlan {
        name,
        contents,
        named: BTreeMap::new(),
        folder: None,
        pointers: vec![(pointer.join(tag), bytes)],
    })
}

/// The layout's name in site.yaml and in messages.
pub(super) fn layout_name(layout: ModelLayout) -> &'static str {
    match layout {
        ModelLayout::HfCache => "hf-cache",
        ModelLayout::Flat => "flat",
        ModelLayout::Ollama => "ollama",
        ModelLayout::Sie => "sie",
    }
}

#[cfg(test)]
mod tests;
