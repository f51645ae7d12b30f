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
        let path = PathBuf::from("blobs").join(format!("sha256-{}", blob.digest.hex()));
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use serde_json::json;

    use super::super::test_source::{COMMIT, MemorySource};
    use super::*;

    fn make_source() -> MemorySource {
        let mut source = MemorySource::default();
        let files: [(&str, &[u8]); 3] =
            [("config.json", b"{}"), ("a/b/c.txt", b"deep"), ("model.safetensors", b"weights")];
        source.add_model("BAAI/bge-m3", COMMIT, Some("main"), &files);
        source
    }

    fn choose(layout: ModelLayout) -> ModelSelection {
        ModelSelection { layout, ..ModelSelection::default() }
    }

    fn plan_one(source: &MemorySource, choice: &ModelSelection) -> ModelPlan {
        let mut plans = plan_models(source, choice).unwrap().plans;
        assert_eq!(plans.len(), 1, "{plans:?}");
        plans.remove(0)
    }

    /// Where a relative link leads, by its text alone.
    fn follow(link: &Path, to: &Path) -> PathBuf {
        let mut at = link.parent().unwrap().to_owned();
        for part in to.components() {
            match part {
                std::path::Component::ParentDir => assert!(at.pop(), "{}", link.display()),
                part => at.push(part),
            }
        }
        at
    }

    #[test]
    fn each_link_of_a_hub_cache_leads_to_the_blob_of_its_file_from_any_depth() {
        let plan = plan_one(&make_source(), &choose(ModelLayout::HfCache));
        let folder = plan.folder.unwrap();
        assert_eq!(folder.links.len(), 3);
        for (path, to) in &folder.links {
            let blob = follow(&folder.path.join(path), to);
            let sizes = [("config.json", 2), ("a/b/c.txt", 4), ("model.safetensors", 7)];
            let (_, size) = sizes.iter().find(|(name, _)| path == Path::new(name)).unwrap();
            assert_eq!(plan.contents[&blob].size, *size, "{}", path.display());
        }
    }

    #[test]
    fn a_plan_without_links_has_the_files_that_they_lead_to() {
        let source = make_source();
        let links = plan_one(&source, &choose(ModelLayout::HfCache));
        let choice = ModelSelection { files: Files::Plain, ..choose(ModelLayout::HfCache) };
        assert_eq!(links.with_plain_files(), plan_one(&source, &choice));
    }

    #[test]
    fn a_blob_of_a_hub_cache_has_the_git_id_as_its_name_and_in_lfs_the_sha256() {
        let plan = plan_one(&make_source(), &choose(ModelLayout::HfCache));
        for (path, content) in &plan.contents {
            let name = path.file_name().unwrap().to_str().unwrap();
            let expected = if content.size == 7 {
                content.digest.hex()
            } else {
                content.digest.hex()[..40].to_owned()
            };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn a_branch_points_to_the_bare_commit() {
        let plan = plan_one(&make_source(), &choose(ModelLayout::HfCache));
        // A newline behind it breaks every offline look-up of huggingface_hub.
        let expected =
            (PathBuf::from("models--BAAI--bge-m3/refs/main"), COMMIT.as_bytes().to_vec());
        assert_eq!(plan.pointers, [expected]);
        assert_eq!(
            plan.folder.unwrap().path,
            PathBuf::from(format!("models--BAAI--bge-m3/snapshots/{COMMIT}"))
        );
    }

    #[test]
    fn a_revision_that_cannot_be_a_path_or_is_the_commit_is_shown_as_main() {
        let cases = [
            (None, "main"),
            (Some(COMMIT), "main"),
            (Some("../../../etc/cron.d/x"), "main"),
            (Some("/etc/x"), "main"),
            (Some("v1.5"), "v1.5"),
            (Some("refs/pr/3"), "refs/pr/3"),
        ];
        for (revision, shown) in cases {
            let mut source = MemorySource::default();
            source.add_model("o/n", COMMIT, revision, &[("x", b"x")]);
            let plan = plan_one(&source, &choose(ModelLayout::HfCache));
            let expected = Path::new("models--o--n/refs").join(shown);
            assert_eq!(plan.pointers[0].0, expected, "{revision:?}");
        }
    }

    #[test]
    fn plain_files_and_sie_are_the_same_plan_without_links_and_blobs() {
        let source = make_source();
        let plain = ModelSelection { files: Files::Plain, ..choose(ModelLayout::HfCache) };
        let plan = plan_one(&source, &plain);
        assert_eq!(plan, plan_one(&source, &choose(ModelLayout::Sie)));
        assert!(plan.contents.is_empty());
        let folder = plan.folder.as_ref().unwrap();
        assert!(folder.links.is_empty());
        assert_eq!(folder.identity, FolderIdentity::Commit);
        assert_eq!((plan.files().count(), plan.size()), (3, 13));
    }

    #[test]
    fn a_flat_folder_is_the_models_in_any_revision() {
        let plan = plan_one(&make_source(), &choose(ModelLayout::Flat));
        let folder = plan.folder.as_ref().unwrap();
        assert_eq!(folder.identity, FolderIdentity::Model);
        assert!(plan.pointers.is_empty());
        assert!(plan.files().any(|(path, _)| path == Path::new("BAAI/bge-m3/a/b/c.txt")));
    }

    #[test]
    fn an_id_that_leads_out_of_the_folder_is_refused() {
        for id in ["../../etc", "a/../b", "/abs/olute"] {
            let mut source = MemorySource::default();
            source.add_model(id, COMMIT, None, &[("x", b"x")]);
            let plan = plan_models(&source, &choose(ModelLayout::Flat));
            assert!(matches!(plan, Err(Error::Name(_))), "{id}: {plan:?}");
        }
    }

    #[test]
    fn a_model_is_chosen_by_its_id_in_any_case_or_by_its_full_name() {
        let mut source = make_source();
        source.add_model("org/other", COMMIT, None, &[("x", b"x")]);
        for name in ["BAAI/bge-m3", "baai/BGE-M3", &format!("huggingface.co/baai/bge-m3:{COMMIT}")]
        {
            let choice =
                ModelSelection { names: vec![name.to_owned()], ..choose(ModelLayout::HfCache) };
            let plan = plan_one(&source, &choice);
            assert_eq!(plan.name, format!("BAAI/bge-m3@{COMMIT}"), "{name}");
        }
    }

    #[test]
    fn a_missing_model_is_named_with_those_that_are_there_or_left_out_where_a_site_asks() {
        let source = make_source();
        let refused =
            ModelSelection { names: vec!["no/such".into()], ..choose(ModelLayout::HfCache) };
        let error = plan_models(&source, &refused).unwrap_err().to_string();
        assert!(error.contains("no/such") && error.contains("BAAI/bge-m3"), "{error}");
        let left_out = ModelSelection { unfit: UnfitModelPolicy::LeftOut, ..refused };
        assert_eq!(plan_models(&source, &left_out).unwrap().plans, []);
        let empty = plan_models(&MemorySource::default(), &choose(ModelLayout::Flat));
        assert!(matches!(empty, Err(Error::NoModel { .. })), "{empty:?}");
    }

    fn add_ollama_model(source: &mut MemorySource) -> Vec<u8> {
        let (weights, config) = (source.add_blob(b"gguf"), source.add_blob(b"config"));
        // Ollama's own text, with its spaces: its digest is the model's id.
        let manifest = format!(
            "{{ \"schemaVersion\": 2, \"config\": {}, \"layers\": [ {} ] }}\n",
            json!({"mediaType": "application/json", "digest": config, "size": 6}),
            json!({"mediaType": "application/octet-stream", "digest": weights, "size": 4}),
        );
        let name = "registry.ollama.ai/library/qwen2.5:3b".parse().unwrap();
        source.add_root(name, RootKind::Ollama, manifest.as_bytes());
        manifest.into_bytes()
    }

    #[test]
    fn an_ollama_model_keeps_its_manifest_byte_for_byte() {
        let mut source = MemorySource::default();
        let manifest = add_ollama_model(&mut source);
        let plan = plan_one(&source, &choose(ModelLayout::Ollama));
        let path = "manifests/registry.ollama.ai/library/qwen2.5/3b";
        assert_eq!(plan.pointers, [(PathBuf::from(path), manifest)]);
        let names: Vec<_> = plan.contents.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| name.starts_with("blobs/sha256-")), "{names:?}");
        assert!(plan.folder.is_none());
    }

    #[test]
    fn what_a_layout_cannot_hold_is_told_unless_somebody_named_it() {
        let mut source = make_source();
        add_ollama_model(&mut source);
        source.add_file("runbook.pdf", b"read me");
        for unfit in [UnfitModelPolicy::Refused, UnfitModelPolicy::LeftOut] {
            let all = ModelSelection { unfit, ..choose(ModelLayout::Ollama) };
            let planned = plan_models(&source, &all).unwrap();
            assert!(planned.plans[0].name.starts_with("registry.ollama.ai/"));
            let told: Vec<&str> = planned.left_out.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told[0].starts_with("BAAI/bge-m3@") && told[1].starts_with("files.gantry/"));
            let named = ModelSelection { names: vec!["hf:baai/bge-m3".into()], ..all };
            let plan = plan_models(&source, &named);
            assert!(matches!(plan, Err(Error::Layout { layout: "ollama", .. })), "{plan:?}");
        }
    }

    #[test]
    fn a_layout_that_can_hold_nothing_of_the_source_is_an_error_with_each_reason() {
        let error = plan_models(&make_source(), &choose(ModelLayout::Ollama)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("BAAI/bge-m3@") && text.contains("choose hf-cache"), "{text}");
    }

    #[test]
    fn a_file_is_flat_under_its_own_name() {
        let mut source = MemorySource::default();
        source.add_file("Qwen (Q4).gguf", b"weights");
        let plan = plan_one(&source, &choose(ModelLayout::Flat));
        assert!(plan.contents.is_empty() && plan.folder.is_none() && plan.pointers.is_empty());
        let files: Vec<_> = plan.files().collect();
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].0.to_str(), files[0].1.size), (Some("Qwen (Q4).gguf"), 7));
    }

    #[test]
    fn two_files_of_one_name_are_refused_unless_one_of_them_is_chosen() {
        let mut source = MemorySource::default();
        source.add_file("x.gguf", b"one");
        source.add_file("x.gguf", b"two");
        let error = plan_models(&source, &choose(ModelLayout::Flat)).unwrap_err();
        let Error::SameName { names, .. } = &error else { panic!("{error}") };
        let named = ModelSelection { names: vec![names[1].clone()], ..choose(ModelLayout::Flat) };
        assert_eq!(plan_one(&source, &named).name, names[1]);
        // The same content twice is one file.
        let mut source = MemorySource::default();
        source.add_file("x.gguf", b"one");
        source.add_file("x.gguf", b"one");
        assert_eq!(plan_models(&source, &choose(ModelLayout::Flat)).unwrap().plans.len(), 2);
    }
}
