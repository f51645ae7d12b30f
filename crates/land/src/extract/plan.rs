//! Plans what is extracted: which root becomes which file or folder.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use store::{Source, read_blob};
use types::carried_file::CarriedFile;
use types::lock::Blob;
use types::snapshot::Snapshot;
use types::{DigestAlgorithm, Manifest, ModelId, Platform, Reference, Root, RootKind, media_type};

use super::error::Result;
use super::image_archive::build_image_archive;
use super::selection::ExtractSelection;
use crate::blob_tar::BlobTar;

/// Gantry's own folder in the one that is extracted to; no item may have its name.
pub(super) const OWN: &str = ".gantry-extract";

/// What is extracted.
#[derive(Debug, Clone)]
pub struct ExtractPlan {
    /// The items, in the order of their names.
    pub items: Vec<ExtractItem>,
}

/// One file or folder.
#[derive(Debug, Clone)]
pub struct ExtractItem {
    /// The root that it is made of.
    pub name: Reference,
    /// What that is.
    pub kind: RootKind,
    /// The file or folder, relative to the one that is extracted to.
    pub path: PathBuf,
    /// Of an image: the platform that `docker load` gets; the archive has all that were carried.
    pub platform: Option<Platform>,
    pub(super) content: ItemContent,
}

/// The content of an item.
#[derive(Debug, Clone)]
pub(super) enum ItemContent {
    /// One blob.
    File(Blob),
    /// A folder of blobs and of small documents.
    Folder { files: BTreeMap<PathBuf, Blob>, documents: BTreeMap<PathBuf, Vec<u8>> },
    /// A tar that is put together.
    Archive(BlobTar),
}

impl ExtractItem {
    /// Its length in bytes; of a folder, that of its files.
    pub fn size(&self) -> u64 {
        match &self.content {
            ItemContent::File(blob) => blob.size,
            ItemContent::Folder { files, documents } => {
                let documents = documents.values().map(|bytes| bytes.len() as u64);
                files.values().map(|blob| blob.size).chain(documents).sum()
            }
            ItemContent::Archive(tar) => tar.size(),
        }
    }
}

/// Plans the selected roots of a source. Reads manifests only; blocks on the disk.
///
/// `platform` is the one of an image that `docker load` gets; that of this machine when absent.
pub fn plan_extract(
    source: &dyn Source,
    selection: &ExtractSelection,
    platform: Option<&Platform>,
) -> Result<ExtractPlan> {
    let mut roots = Vec::new();
    for root in source.roots()? {
        let bytes = read_blob(source, &root.descriptor.digest, Manifest::MAX_SIZE)?;
        let manifest = Manifest::parse(&root.name.to_string(), &bytes)?;
        roots.push((root, manifest, bytes));
    }
    let mut planned = Vec::new();
    for (root, manifest, bytes) in selection.choose(&roots)? {
        planned.extend(plan_root(source, root, manifest, bytes, platform)?);
    }
    Ok(ExtractPlan { items: give_paths(planned) })
}

/// An item with the paths that it may have: the first that no other item has.
struct PlannedItem {
    item: ExtractItem,
    short: PathBuf,
    full: PathBuf,
}

/// The items of one root: a chart with its provenance file has two, all others one.
fn plan_root(
    source: &dyn Source,
    root: &Root,
    manifest: &Manifest,
    bytes: &[u8],
    platform: Option<&Platform>,
) -> Result<Vec<PlannedItem>> {
    let item = |content: ItemContent, platform: Option<Platform>| ExtractItem {
        name: root.name.clone(),
        kind: root.kind,
        path: PathBuf::new(),
        platform,
        content,
    };
    let names = RootFileNames::of_root(&root.name);
    let layer = |wanted: &str| manifest.layers.iter().find(|layer| layer.media_type == wanted);
    if let (RootKind::Chart, Some(archive)) = (root.kind, layer(media_type::HELM_CONTENT)) {
        // helm writes a version with `+` as a tag with `_`.
        let [short, full] = names.with_version(&root.name.digest_or_tag().replace('_', "+"));
        let mut items = vec![PlannedItem {
            item: item(ItemContent::File(archive.into()), None),
            short: format!("{short}.tgz").into(),
            full: format!("{full}.tgz").into(),
        }];
        if let Some(provenance) = layer(media_type::HELM_PROVENANCE) {
            items.push(PlannedItem {
                item: item(ItemContent::File(provenance.into()), None),
                short: format!("{short}.tgz.prov").into(),
                full: format!("{full}.tgz.prov").into(),
            });
        }
        return Ok(items);
    }
    if let Some(snapshot) = Snapshot::from_root(root, manifest) {
        // The id becomes a path: parsing it refuses `..` and the like.
        snapshot.id.parse::<ModelId>()?;
        let files = snapshot.files.iter().map(|(path, file)| {
            (PathBuf::from(path), Blob { digest: file.digest, size: file.size })
        });
        let content = ItemContent::Folder { files: files.collect(), documents: BTreeMap::new() };
        return Ok(vec![PlannedItem {
            item: item(content, None),
            short: PathBuf::from(&snapshot.id),
            full: PathBuf::from(format!("{}@{}", snapshot.id, snapshot.commit)),
        }]);
    }
    if let Some(file) = CarriedFile::from_root(root, manifest) {
        let blob = Blob { digest: file.digest, size: file.size };
        return Ok(vec![PlannedItem {
            item: item(ItemContent::File(blob), None),
            full: format!("{}-{}", file.digest.short_hex(), file.title).into(),
            short: file.title.into(),
        }]);
    }
    let [short, full] = names.with_version(&root.name.digest_or_tag());
    if root.kind == RootKind::Ollama {
        let content = plan_ollama_folder(&root.name, manifest, bytes);
        return Ok(vec![PlannedItem {
            item: item(content, None),
            short: short.into(),
            full: full.into(),
        }]);
    }
    let archive = build_image_archive(source, root, platform)?;
    Ok(vec![PlannedItem {
        item: item(ItemContent::Archive(archive.tar), archive.platform),
        short: format!("{short}.tar").into(),
        full: format!("{full}.tar").into(),
    }])
}

/// A models folder of Ollama with one model: its manifest byte for byte, since its digest is the model's
/// id.
fn plan_ollama_folder(name: &Reference, manifest: &Manifest, bytes: &[u8]) -> ItemContent {
    let blob = |blob: &types::Descriptor| {
        (Path::new("blobs").join(blob.digest.dashed_text()), blob.into())
    };
    let path = Path::new("manifests").join(name.registry()).join(name.repository());
    let path = path.join(name.tag().unwrap_or("latest"));
    ItemContent::Folder {
        files: manifest.blobs().map(blob).collect(),
        documents: BTreeMap::from([(path, bytes.to_vec())]),
    }
}

/// The names of a root's file: without and with the registry and its path.
struct RootFileNames {
    short: String,
    full: String,
}

impl RootFileNames {
    fn of_root(name: &Reference) -> Self {
        let last = name.repository().rsplit('/').next().unwrap_or_default();
        Self { short: last.to_owned(), full: to_file_name(&name.name()) }
    }

    fn with_version(&self, version: &str) -> [String; 2] {
        let version = to_file_name(version);
        [format!("{}-{version}", self.short), format!("{}-{version}", self.full)]
    }
}

/// A part of a reference as a part of a file's name on any file system.
fn to_file_name(text: &str) -> String {
    // The longest name of a file is 255 bytes; a digest is recognised by its first digits.
    const MOST_HEX: usize = 12;
    let algorithms = DigestAlgorithm::ALL.map(DigestAlgorithm::name);
    let digest = algorithms.into_iter().find_map(|algorithm| {
        let (before, hex) = text.split_once(&format!("{algorithm}:"))?;
        Some(format!("{before}{algorithm}-{}", &hex[..MOST_HEX.min(hex.len())]))
    });
    let text = digest.unwrap_or_else(|| text.to_owned());
    text.replace(['/', ':', '@'], "_")
}

/// Gives each item its short path, and those whose short paths would meet their full ones. Compared
/// without regard to the case of letters, as some file systems do.
fn give_paths(planned: Vec<PlannedItem>) -> Vec<ExtractItem> {
    let lower = |path: &Path| PathBuf::from(path.to_string_lossy().to_lowercase());
    let mut counts: HashMap<PathBuf, usize> = HashMap::new();
    let mut folders: HashSet<PathBuf> = HashSet::new();
    for one in &planned {
        let path = lower(&one.short);
        folders.extend(path.ancestors().skip(1).map(Path::to_owned));
        *counts.entry(path).or_default() += 1;
    }
    let shared: Vec<bool> = planned
        .iter()
        .map(|one| {
            let path = lower(&one.short);
            counts.get(&path).is_some_and(|count| *count > 1)
                || folders.contains(&path)
                || path.ancestors().skip(1).any(|folder| counts.contains_key(folder))
        })
        .collect();
    let chosen = planned.into_iter().zip(shared);
    let mut items: Vec<ExtractItem> = chosen
        .map(|(one, is_shared)| {
            let path = if is_shared { one.full } else { one.short };
            ExtractItem { path, ..one.item }
        })
        .collect();
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items.dedup_by(|a, b| a.path == b.path);
    items
}
