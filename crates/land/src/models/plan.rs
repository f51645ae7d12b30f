//! Plans the files of models: which blob goes to which path, by the layout that the runtime expects.
//! Only manifests are read for it.
//!
//! | layout | of | paths |
//! |---|---|---|
//! | `hf-cache` | Hugging Face | `models--org--name/{blobs,snapshots/<commit>,refs}`, links or files |
//! | `sie` | Hugging Face | the same with plain files, for SIE's `clusterCache.url` |
//! | `flat` | Hugging Face | `org/name/<path>` |
//! | `ollama` | Ollama | `manifests/<host>/<model>/<tag>`, `blobs/sha256-<hex>` |
//!
//! The first is described by huggingface_hub's guide "Understand caching", the last is what `ollama`
//! itself writes into the folder `OLLAMA_MODELS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::Source;
use types::site::{CacheFileStyle as Files, ModelLayout};
use types::snapshot::{Snapshot, check_model_path};
use types::{Descriptor, Digest, Manifest, ModelId, Root, RootKind};

use super::{Error, Result};

/// Which models of a source are written, and in which layout.
#[derive(Debug, Clone, Default)]
pub struct ModelSelection {
    /// Ids (`BAAI/bge-m3`) or full references; all models of the source when empty.
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
    /// They are an error: right for a command with one target, which the user has chosen.
    #[default]
    Refused,
    /// They are left out: a site has several targets, and not every source has all models.
    LeftOut,
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
        let own = self.contents.iter().map(|(path, content)| (path.clone(), *content));
        let folder = self.folder.iter().flat_map(|folder| {
            folder.files.iter().map(|(path, content)| (folder.path.join(path), *content))
        });
        own.chain(folder)
    }

    /// The size of all these files together, in bytes.
    pub fn size(&self) -> u64 {
        self.files().map(|(_, content)| content.size).sum()
    }
}

/// Plans the selected models of a source. That there are none is an error, unless models that do not
/// fit are left out. Blocks on the disk.
pub fn plan_models(source: &dyn Source, choice: &ModelSelection) -> Result<Vec<ModelPlan>> {
    let models: Vec<Root> = source.roots()?.into_iter().filter(is_model_root).collect();
    let mut plans = Vec::new();
    let mut known = Vec::new();
    let mut missing: Vec<&String> = choice.names.iter().collect();
    for root in models {
        let bytes = store::read_blob(source, &root.descriptor.digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let snapshot = Snapshot::from_root(&root, &manifest);
        let id = match &snapshot {
            Some(snapshot) => snapshot.id.clone(),
            None => root.name.to_string(),
        };
        let is_wanted =
            |name: &&String| name.eq_ignore_ascii_case(&id) || root.name.to_string() == **name;
        known.push(id.clone());
        if !choice.names.is_empty() && !choice.names.iter().any(|name| is_wanted(&name)) {
            continue;
        }
        missing.retain(|name| !is_wanted(name));
        let plan = match snapshot {
            Some(snapshot) => plan_snapshot(&snapshot, choice),
            None => plan_ollama_model(&root, &manifest, bytes, choice),
        };
        match plan {
            Err(Error::Layout { .. })
                if choice.unfit == UnfitModelPolicy::LeftOut && choice.names.is_empty() => {}
            plan => plans.push(plan?),
        }
    }
    if choice.unfit == UnfitModelPolicy::Refused
        && let Some(name) = missing.first()
    {
        return Err(Error::NoModel { name: (*name).clone(), has: known });
    }
    if plans.is_empty() && choice.unfit == UnfitModelPolicy::Refused {
        return Err(Error::NoModel { name: "at all".into(), has: known });
    }
    Ok(plans)
}

fn is_model_root(root: &Root) -> bool {
    matches!(root.kind, RootKind::Model | RootKind::Ollama)
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
        let path = PathBuf::from("blobs").join(format!("sha256-{}", blob.digest.hex()));
        (path, FileContent { digest: blob.digest, size: blob.size })
    };
    let contents = manifest.config.iter().chain(&manifest.layers).map(content).collect();
    let tag = root.name.tag().unwrap_or("latest");
    let pointer = Path::new("manifests").join(root.name.registry()).join(root.name.repository());
    Ok(ModelPlan { name, contents, folder: None, pointers: vec![(pointer.join(tag), bytes)] })
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
