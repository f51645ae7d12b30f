#![allow(clippy::unwrap_used)]
use std::fs;

use store::hash::sha256;
use store::progress::SilentProgress;

use super::super::test_source::{COMMIT, MemorySource};
use super::super::{ModelSelection, plan_models};
use super::*;

fn make_source(commit: char, files: &[(&str, &[u8])]) -> MemorySource {
    let mut source = MemorySource::default();
    source.add_model("o/n", &commit.to_string().repeat(40), None, files);
    source
}

fn write_flat(root: &Path, source: &MemorySource) -> Result<Vec<ModelPutOutcome>> {
    let choice = ModelSelection { layout: ModelLayout::Flat, ..ModelSelection::default() };
    let plans = plan_models(source, &choice).unwrap().plans;
    source.opened.lock().unwrap().clear();
    write_models(source, root, &plans, ModelLayout::Flat, &SilentProgress)
}

#[test]
fn a_second_load_reads_nothing_of_the_source() {
    let root = tempfile::tempdir().unwrap();
    let source = make_source('a', &[("x", b"xx"), ("y/z", b"zz")]);
    assert_eq!(write_flat(root.path(), &source).unwrap(), [ModelPutOutcome::Written]);
    assert_eq!(fs::read(root.path().join("o/n/y/z")).unwrap(), b"zz");
    assert_eq!(write_flat(root.path(), &source).unwrap(), [ModelPutOutcome::Present]);
    assert!(source.opened.lock().unwrap().is_empty());
}

#[test]
fn a_part_that_a_killed_run_left_is_resumed_where_it_ended() {
    let root = tempfile::tempdir().unwrap();
    let source = make_source('a', &[("x", b"0123456789")]);
    let digest = sha256(b"0123456789");
    let staged = format!(".gantry/staged/o--n--{}/x", "a".repeat(40));
    let name = sha256(staged.as_bytes()).short_hex();
    let parts = root.path().join(".gantry/parts");
    fs::create_dir_all(&parts).unwrap();
    fs::write(parts.join(format!("{}-{name}", digest.hex())), "0123").unwrap();
    write_flat(root.path(), &source).unwrap();
    assert_eq!(*source.opened.lock().unwrap(), [(digest, 4..10)]);
    assert_eq!(fs::read(root.path().join("o/n/x")).unwrap(), b"0123456789");
}

#[test]
fn wrong_bytes_are_never_shown_and_nothing_of_them_is_resumed() {
    let root = tempfile::tempdir().unwrap();
    let mut source = make_source('a', &[("x", b"good")]);
    source.damage_blob(&sha256(b"good"));
    let error = write_flat(root.path(), &source).unwrap_err();
    assert!(error.is_integrity(), "{error}");
    assert!(!root.path().join("o/n").exists());
    assert_eq!(ModelRecord::read_all(root.path()).unwrap(), []);
    let right = make_source('a', &[("x", b"good")]);
    write_flat(root.path(), &right).unwrap();
    assert_eq!(*right.opened.lock().unwrap(), [(sha256(b"good"), 0..4)]);
}

#[test]
fn a_new_revision_takes_the_folder_of_the_old_and_reads_only_what_changed() {
    let root = tempfile::tempdir().unwrap();
    let old = make_source('a', &[("same", b"same"), ("gone", b"gone"), ("x", b"old")]);
    write_flat(root.path(), &old).unwrap();
    let new = make_source('b', &[("same", b"same"), ("x", b"new")]);
    write_flat(root.path(), &new).unwrap();
    let folder = root.path().join("o/n");
    assert_eq!(fs::read(folder.join("x")).unwrap(), b"new");
    assert_eq!(fs::read(folder.join("same")).unwrap(), b"same");
    assert!(!folder.join("gone").exists());
    assert_eq!(*new.opened.lock().unwrap(), [(sha256(b"new"), 0..3)]);
    let records = ModelRecord::read_all(root.path()).unwrap();
    assert_eq!(records.len(), 1);
    assert!(fs::read_dir(root.path().join(".gantry/staged")).unwrap().next().is_none());
}

#[test]
fn a_folder_that_somebody_else_made_is_kept_unless_all_of_it_is_the_models() {
    let source = make_source('a', &[("x", b"good"), ("y", b"more")]);
    for (path, text) in [("o/n/x", "mine"), ("o/n/own.txt", "mine")] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("o/n")).unwrap();
        fs::write(root.path().join(path), text).unwrap();
        let error = write_flat(root.path(), &source).unwrap_err();
        assert!(
            matches!(&error, Error::InTheWay { path: at, .. } if at.ends_with(path)),
            "{error}"
        );
        assert_eq!(fs::read_to_string(root.path().join(path)).unwrap(), "mine");
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("o/n")).unwrap();
    fs::write(root.path().join("o/n/x"), "good").unwrap();
    write_flat(root.path(), &source).unwrap();
    assert_eq!(*source.opened.lock().unwrap(), [(sha256(b"more"), 0..4)]);
}

#[test]
fn a_link_with_another_target_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join(OWN).join("parts")).unwrap();
    let (link, to) = (Path::new("a").join(COMMIT), Path::new("../blobs/x"));
    let put = |to: &Path| put_link(&ConfinedFolder::new(root.path()), &link, to).unwrap();
    assert_eq!(put(Path::new("../blobs/old")), ModelPutOutcome::Written);
    assert_eq!(put(to), ModelPutOutcome::Written);
    assert_eq!(put(to), ModelPutOutcome::Present);
    assert_eq!(fs::read_link(root.path().join(&link)).unwrap(), to);
}

/// A file outside, and a folder of models in which somebody planted a link to it.
fn plant_link(path: &str) -> (tempfile::TempDir, tempfile::TempDir) {
    let [outside, root] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "theirs").unwrap();
    let link = root.path().join(path);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let is_folder = !path.contains('.') || path.ends_with("parts");
    let to = if is_folder { outside.path().to_owned() } else { outside.path().join("secret") };
    std::os::unix::fs::symlink(to, link).unwrap();
    (outside, root)
}

#[test]
fn nothing_is_written_through_a_planted_link() {
    let source = make_source('a', &[("x", b"xx")]);
    let staged = format!(".gantry/staged/o--n--{}/x", "a".repeat(40));
    let part =
        format!(".gantry/parts/{}-{}", sha256(b"xx").hex(), sha256(staged.as_bytes()).short_hex());
    for path in ["o", "o/n", ".gantry/lock", ".gantry/parts", &part] {
        let (outside, root) = plant_link(path);
        let error = write_flat(root.path(), &source).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{path}: {error}");
        let theirs: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(theirs.len(), 1, "{path}");
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "theirs");
    }
}

#[test]
fn a_planted_link_in_the_place_of_a_file_is_replaced_and_what_it_leads_to_stays() {
    let mut source = make_source('a', &[("x", b"xx")]);
    source.add_file("y.gguf", b"theirs");
    let choice =
        ModelSelection { files: types::site::CacheFileStyle::Plain, ..ModelSelection::default() };
    let file = format!("models--o--n/snapshots/{}/x", "a".repeat(40));
    for path in [file.as_str(), "models--o--n/refs/main"] {
        let (outside, root) = plant_link(&format!("{path}.not"));
        let link = root.path().join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        fs::rename(root.path().join(format!("{path}.not")), &link).unwrap();
        let plans = plan_models(&source, &choice).unwrap().plans;
        write_models(&source, root.path(), &plans, ModelLayout::HfCache, &SilentProgress).unwrap();
        assert!(!link.is_symlink(), "{path}");
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "theirs");
    }
    // A file of a name of its own is refused, since the link may be its owner's work.
    let (_outside, root) = plant_link("y.gguf");
    let error = write_flat(root.path(), &source).unwrap_err();
    assert!(matches!(error, Error::InTheWay { .. }), "{error}");
}
