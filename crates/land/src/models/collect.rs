//! Removes older revisions of a model when a newer one is there: only files that a record says Gantry
//! wrote, and that no other revision uses.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{Result, disk_error};
use store::confined::ConfinedFolder;

use super::plan::{ModelPlan, resolve_link};
use super::record::ModelRecord;

/// Removes all but `keep` revisions of each model in `plans`: the revision of the plan stays, and the
/// newest of the others. Returns the names of those that were removed. Blocks on the disk.
///
/// What points to a revision is removed first and its record last, so that a run after a kill finds
/// the record and removes the rest.
pub fn collect_old_revisions(root: &Path, plans: &[ModelPlan], keep: usize) -> Result<Vec<String>> {
    let mut records = ModelRecord::read_all(root)?;
    let mut gone = Vec::new();
    for plan in plans {
        let model = model_without_revision(&plan.name);
        let mut others: Vec<(SystemTime, String)> = records
            .iter()
            .filter(|record| {
                model_without_revision(&record.name) == model && record.name != plan.name
            })
            .map(|record| (put_time(root, record), record.name.clone()))
            .collect();
        others.sort_by(|a, b| b.cmp(a));
        // The revision of the plan is one of the `keep`, and is not in the list.
        for (_, name) in others.into_iter().skip(keep.saturating_sub(1)) {
            let Some(at) = records.iter().position(|record| record.name == name) else { continue };
            let record = records.remove(at);
            remove_revision(root, &record, &records)?;
            gone.push(name);
        }
    }
    Ok(gone)
}

/// A model's name without its revision.
fn model_without_revision(name: &str) -> &str {
    name.split_once('@').map_or(name, |(model, _)| model)
}

/// When a revision was written: the time of its record.
fn put_time(root: &Path, record: &ModelRecord) -> SystemTime {
    let time = |path: PathBuf| -> std::io::Result<SystemTime> {
        fs::metadata(root.join(path))?.modified()
    };
    record.paths().into_iter().find_map(|path| time(path).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Removes one revision; `others` are the records of all that stay. No link is followed: whoever may
/// write in the folder could point one at any file.
fn remove_revision(root: &Path, record: &ModelRecord, others: &[ModelRecord]) -> Result<()> {
    let folder = ConfinedFolder::new(root);
    let is_theirs = |path: &Path| {
        others.iter().any(|other| other.files.contains_key(path) || other.links.contains_key(path))
    };
    let led_to = find_link_targets(root, record)?;
    // Links and branches point to content, so they go first: a reader finds no link without its file.
    for path in record.links.keys().filter(|path| !is_theirs(path)) {
        remove_if_present(&folder, path)?;
    }
    // Of the files, blobs go last: snapshots and branches refer to them.
    let (blobs, leading): (Vec<_>, Vec<_>) = record
        .files
        .keys()
        .filter(|path| !is_theirs(path))
        .partition(|path| path.parent().is_some_and(|folder| folder.ends_with("blobs")));
    for path in leading.iter().chain(&blobs) {
        if !led_to.contains(path.as_path()) {
            remove_if_present(&folder, path)?;
        }
    }
    let folders: BTreeSet<&Path> = record
        .files
        .keys()
        .chain(record.links.keys())
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    // The deepest first. `remove_dir` fails on a folder that is not empty: one with other files stays.
    for path in folders.iter().rev() {
        let _ = folder.remove_empty_folder(path);
    }
    record.remove_record(root)
}

/// The files that symbolic links of other snapshots of the same model point to, whoever made the links:
/// huggingface_hub may have added a snapshot that shares blobs with ours.
fn find_link_targets(root: &Path, record: &ModelRecord) -> Result<BTreeSet<PathBuf>> {
    let confined = ConfinedFolder::new(root);
    let mut led_to = BTreeSet::new();
    let snapshots = record.links.keys().filter_map(|path| {
        path.ancestors().find(|folder| folder.ends_with("snapshots")).map(Path::to_owned)
    });
    for start in snapshots.collect::<BTreeSet<_>>() {
        let mut open = vec![start];
        while let Some(folder) = open.pop() {
            let names = match confined.list_names(&folder) {
                Ok(names) => names,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) => return Err(disk_error(&root.join(&folder))(cause)),
            };
            for path in names.into_iter().map(|name| folder.join(name)) {
                if confined.read_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                    open.push(path);
                } else if let Ok(to) = confined.read_link(&path)
                    && !record.links.contains_key(&path)
                {
                    led_to.insert(resolve_link(&path, &to));
                }
            }
        }
    }
    Ok(led_to)
}

/// Removes a file that may be gone already.
fn remove_if_present(folder: &ConfinedFolder, path: &Path) -> Result<()> {
    match folder.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(disk_error(&folder.path().join(path))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use store::progress::SilentProgress;
    use types::site::ModelLayout;

    use super::super::test_source::MemorySource;
    use super::super::{ModelSelection, plan_models, write_models};
    use super::*;

    fn write_revision(root: &Path, commit: char, files: &[(&str, &[u8])]) -> Vec<ModelPlan> {
        let mut source = MemorySource::default();
        source.add_model("o/n", &commit.to_string().repeat(40), Some("main"), files);
        let plans = plan_models(&source, &ModelSelection::default()).unwrap().plans;
        write_models(&source, root, &plans, ModelLayout::HfCache, &SilentProgress).unwrap();
        plans
    }

    /// Dates the record of a revision: `age` seconds before now.
    fn set_age(root: &Path, commit: char, age: u64) {
        let name = format!("o--n--{}.json", commit.to_string().repeat(40));
        let record = root.join(".gantry/models").join(name);
        let time = SystemTime::now() - Duration::from_secs(age);
        fs::File::options().append(true).open(record).unwrap().set_modified(time).unwrap();
    }

    fn snapshot_path(root: &Path, commit: char) -> PathBuf {
        root.join("models--o--n/snapshots").join(commit.to_string().repeat(40))
    }

    fn count_blobs(root: &Path) -> usize {
        fs::read_dir(root.join("models--o--n/blobs")).unwrap().count()
    }

    #[test]
    fn an_old_revision_goes_with_all_that_only_it_uses() {
        let root = tempfile::tempdir().unwrap();
        write_revision(root.path(), 'a', &[("config.json", b"old"), ("same.txt", b"same")]);
        let plans =
            write_revision(root.path(), 'b', &[("config.json", b"new"), ("same.txt", b"same")]);
        assert_eq!(count_blobs(root.path()), 3);
        let gone = collect_old_revisions(root.path(), &plans, 1).unwrap();
        assert_eq!(gone, [format!("o/n@{}", "a".repeat(40))]);
        assert!(!snapshot_path(root.path(), 'a').exists());
        assert_eq!(count_blobs(root.path()), 2);
        let kept = snapshot_path(root.path(), 'b');
        assert_eq!(fs::read(kept.join("same.txt")).unwrap(), b"same");
        assert_eq!(
            fs::read_to_string(root.path().join("models--o--n/refs/main")).unwrap(),
            "b".repeat(40)
        );
        assert_eq!(ModelRecord::read_all(root.path()).unwrap().len(), 1);
    }

    #[test]
    fn the_plans_revision_and_the_newest_others_are_kept_by_the_time_of_their_records() {
        let root = tempfile::tempdir().unwrap();
        write_revision(root.path(), 'c', &[("x", b"c")]);
        write_revision(root.path(), 'a', &[("x", b"a")]);
        // The plan's own record is the oldest: it stays all the same.
        let plans = write_revision(root.path(), 'b', &[("x", b"b")]);
        for (commit, age) in [('c', 5), ('a', 20), ('b', 90)] {
            set_age(root.path(), commit, age);
        }
        let gone = collect_old_revisions(root.path(), &plans, 2).unwrap();
        assert_eq!(gone, [format!("o/n@{}", "a".repeat(40))]);
        assert!(
            snapshot_path(root.path(), 'b').exists() && snapshot_path(root.path(), 'c').exists()
        );
        assert_eq!(collect_old_revisions(root.path(), &plans, 2).unwrap(), [""; 0]);
    }

    #[test]
    fn a_blob_that_somebody_elses_snapshot_links_to_stays() {
        let root = tempfile::tempdir().unwrap();
        write_revision(root.path(), 'a', &[("config.json", b"old")]);
        let blob = fs::read_link(snapshot_path(root.path(), 'a').join("config.json")).unwrap();
        // huggingface_hub's own download of another commit with the same file.
        let foreign = snapshot_path(root.path(), 'f');
        fs::create_dir_all(&foreign).unwrap();
        std::os::unix::fs::symlink(&blob, foreign.join("config.json")).unwrap();
        let plans = write_revision(root.path(), 'b', &[("config.json", b"new")]);
        collect_old_revisions(root.path(), &plans, 1).unwrap();
        assert!(!snapshot_path(root.path(), 'a').exists());
        assert_eq!(fs::read(foreign.join("config.json")).unwrap(), b"old");
    }

    #[test]
    fn a_folder_with_somebody_elses_file_in_it_stays() {
        let root = tempfile::tempdir().unwrap();
        write_revision(root.path(), 'a', &[("config.json", b"old")]);
        let own = snapshot_path(root.path(), 'a').join("notes.txt");
        fs::write(&own, "mine").unwrap();
        let plans = write_revision(root.path(), 'b', &[("config.json", b"new")]);
        collect_old_revisions(root.path(), &plans, 1).unwrap();
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        assert!(!own.with_file_name("config.json").is_symlink());
    }

    #[test]
    fn a_revision_is_what_stands_behind_the_at_sign() {
        assert_eq!(model_without_revision("BAAI/bge-m3@abc"), "BAAI/bge-m3");
        let ollama = "registry.ollama.ai/library/qwen2.5:3b";
        assert_eq!(model_without_revision(ollama), ollama);
    }
}
