//! What goes where: the files of a model in a layout, with nothing read but manifests.
//!
//! | layout | a Hugging Face snapshot | source |
//! |---|---|---|
//! | `hf-cache` | `models--org--name/{blobs,snapshots/<commit>,refs}`, links or plain files | `spec/huggingface-hub.md` |
//! | `sie` | the same with plain files, under the cache's URL | `spec/sie.md` |
//! | `flat` | `org/name/<path>` | |
//! | `ollama` | (an Ollama model) `manifests/<host>/<model>/<tag>`, `blobs/sha256-<hex>` | `spec/ollama.md` |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::Source;
use types::site::{ModelFiles as Files, ModelLayout};
use types::snapshot::{Snapshot, check_path};
use types::{Descriptor, Digest, Kind, Manifest, ModelId, Root};

use super::{Error, Result};

/// Which models, and how.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Ids (`BAAI/bge-m3`) or references; all models of the source when empty.
    pub names: Vec<String>,
    /// How they are laid out.
    pub layout: ModelLayout,
    /// How a cache's files are kept.
    pub files: Files,
    /// What happens to models that cannot be put.
    pub unfit: Unfit,
}

/// What happens to models that the layout has no place for although nobody named them, and to named
/// ones that the source does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unfit {
    /// They are an error: a person asks for one place.
    #[default]
    Refused,
    /// They are left out: a site has several places, and not every source has all models.
    LeftOut,
}

/// A model in its layout. All paths are relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What people call it, with its revision: `BAAI/bge-m3@<commit>`.
    pub name: String,
    /// Files that lie where their content says, and that nothing looks for by listing.
    pub contents: BTreeMap<PathBuf, Content>,
    /// A folder that becomes visible whole.
    pub folder: Option<Folder>,
    /// Small files that make it known, written last, in this order.
    pub pointers: Vec<(PathBuf, Vec<u8>)>,
}

/// The content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Its sha256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A folder and all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where it stands.
    pub path: PathBuf,
    /// Its files.
    pub files: BTreeMap<PathBuf, Content>,
    /// Its symbolic links and what they say.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// What its path stands for.
    pub identity: Identity,
}

/// What a folder's path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// One commit: whatever is there is part of the same.
    Commit,
    /// The model in whatever revision: another one is replaced.
    Model,
}

impl Plan {
    /// Every file with content, the folder's among them.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, Content)> + '_ {
        let own = self.contents.iter().map(|(path, content)| (path.clone(), *content));
        let folder = self.folder.iter().flat_map(|folder| {
            folder.files.iter().map(|(path, content)| (folder.path.join(path), *content))
        });
        own.chain(folder)
    }

    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files().map(|(_, content)| content.size).sum()
    }
}

/// Plans the chosen models of a source. None is an error unless what does not fit is left out.
/// Blocks on the disk.
pub fn plan(source: &dyn Source, choice: &Choice) -> Result<Vec<Plan>> {
    let models: Vec<Root> = source.roots()?.into_iter().filter(is_model).collect();
    let mut plans = Vec::new();
    let mut known = Vec::new();
    let mut missing: Vec<&String> = choice.names.iter().collect();
    for root in models {
        let bytes = store::document(source, &root.descriptor.digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        let snapshot = Snapshot::of(&root, &manifest);
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
            Some(snapshot) => of_snapshot(&snapshot, choice),
            None => of_ollama(&root, &manifest, bytes, choice),
        };
        match plan {
            Err(Error::Layout { .. })
                if choice.unfit == Unfit::LeftOut && choice.names.is_empty() => {}
            plan => plans.push(plan?),
        }
    }
    if choice.unfit == Unfit::Refused
        && let Some(name) = missing.first()
    {
        return Err(Error::NoModel { name: (*name).clone(), has: known });
    }
    if plans.is_empty() && choice.unfit == Unfit::Refused {
        return Err(Error::NoModel { name: "at all".into(), has: known });
    }
    Ok(plans)
}

fn is_model(root: &Root) -> bool {
    matches!(root.kind, Kind::Model | Kind::Ollama)
}

fn of_snapshot(snapshot: &Snapshot, choice: &Choice) -> Result<Plan> {
    // Its words become paths.
    snapshot.id.parse::<ModelId>()?;
    let name = format!("{}@{}", snapshot.id, snapshot.commit);
    match (choice.layout, choice.files) {
        (ModelLayout::HfCache, files) => Ok(cache(name, snapshot, files)),
        (ModelLayout::Sie, _) => Ok(cache(name, snapshot, Files::Plain)),
        (ModelLayout::Flat, _) => Ok(Plan {
            name,
            contents: BTreeMap::new(),
            folder: Some(Folder {
                path: PathBuf::from(&snapshot.id),
                files: files(snapshot),
                links: BTreeMap::new(),
                identity: Identity::Model,
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

fn files(snapshot: &Snapshot) -> BTreeMap<PathBuf, Content> {
    let file = |(path, file): (&String, &types::snapshot::SnapshotFile)| {
        (PathBuf::from(path), Content { digest: file.digest, size: file.size })
    };
    snapshot.files.iter().map(file).collect()
}

/// A Hugging Face cache's folder of one model.
fn cache(name: String, snapshot: &Snapshot, kept: Files) -> Plan {
    let home = PathBuf::from(format!("models--{}", snapshot.id.replace('/', "--")));
    let mut contents = BTreeMap::new();
    let mut links = BTreeMap::new();
    if kept == Files::Links {
        for (path, file) in &snapshot.files {
            let content = Content { digest: file.digest, size: file.size };
            contents.insert(home.join("blobs").join(file.etag()), content);
            // One step up for the commit, one for `snapshots`, one for each sub-folder.
            let up = "../".repeat(Path::new(path).components().count() + 1);
            links.insert(PathBuf::from(path), PathBuf::from(format!("{up}blobs/{}", file.etag())));
        }
    }
    let is_branch = |name: &&str| *name != snapshot.commit.as_str() && check_path(name).is_ok();
    let revision = snapshot.revision.as_deref().filter(is_branch);
    // A newline behind the commit fails every offline look-up.
    let pointer = (
        home.join("refs").join(revision.unwrap_or("main")),
        snapshot.commit.as_str().as_bytes().to_vec(),
    );
    Plan {
        name,
        contents,
        folder: Some(Folder {
            path: home.join("snapshots").join(snapshot.commit.as_str()),
            files: if kept == Files::Plain { files(snapshot) } else { BTreeMap::new() },
            links,
            identity: Identity::Commit,
        }),
        pointers: vec![pointer],
    }
}

/// Ollama's models folder: blobs by digest, the manifest as it came.
fn of_ollama(root: &Root, manifest: &Manifest, bytes: Vec<u8>, choice: &Choice) -> Result<Plan> {
    let name = root.name.to_string();
    if choice.layout != ModelLayout::Ollama {
        return Err(Error::Layout {
            name,
            layout: layout_name(choice.layout),
            reason: "it is an Ollama model; choose ollama, or name the models that go there",
        });
    }
    let content = |blob: &Descriptor| {
        let path = PathBuf::from("blobs").join(format!("sha256-{}", blob.digest.hex()));
        (path, Content { digest: blob.digest, size: blob.size })
    };
    let contents = manifest.config.iter().chain(&manifest.layers).map(content).collect();
    let tag = root.name.tag().unwrap_or("latest");
    let pointer = Path::new("manifests").join(root.name.registry()).join(root.name.repository());
    Ok(Plan { name, contents, folder: None, pointers: vec![(pointer.join(tag), bytes)] })
}

/// The word in site.yaml.
pub(super) fn layout_name(layout: ModelLayout) -> &'static str {
    match layout {
        ModelLayout::HfCache => "hf-cache",
        ModelLayout::Flat => "flat",
        ModelLayout::Ollama => "ollama",
        ModelLayout::Sie => "sie",
    }
}
