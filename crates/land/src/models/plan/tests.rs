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
    let expected = (PathBuf::from("models--BAAI--bge-m3/refs/main"), COMMIT.as_bytes().to_vec());
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
    for name in ["BAAI/bge-m3", "baai/BGE-M3", &format!("huggingface.co/baai/bge-m3:{COMMIT}")] {
        let choice =
            ModelSelection { names: vec![name.to_owned()], ..choose(ModelLayout::HfCache) };
        let plan = plan_one(&source, &choice);
        assert_eq!(plan.name, format!("BAAI/bge-m3@{COMMIT}"), "{name}");
    }
}

#[test]
fn a_missing_model_is_named_with_those_that_are_there_or_left_out_where_a_site_asks() {
    let source = make_source();
    let refused = ModelSelection { names: vec!["no/such".into()], ..choose(ModelLayout::HfCache) };
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
