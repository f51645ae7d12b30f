//! Things made once and kept below the cache folder: under an unfinished name until they are whole,
//! by one process at a time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::tools;

/// The folder `name` of the cache, which `make` fills when it is not there.
pub(crate) fn build_folder_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = tools::cache_folder().join(name);
    if folder.is_dir() {
        return folder;
    }
    let parent = folder.parent().expect("a name in the cache has a parent");
    fs::create_dir_all(parent).expect("a cache folder can be made");
    let lock = File::create(sibling_path(&folder, "lock")).expect("a lock can be made");
    lock.lock().expect("a lock can be waited for");
    // Another process may have made it while this one waited.
    if folder.is_dir() {
        return folder;
    }
    let unfinished = sibling_path(&folder, "unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished).expect("a cache folder can be made");
    make(&unfinished);
    fs::rename(&unfinished, &folder).expect("a finished folder can be named");
    folder
}

/// The folder's name with one more ending; what looks like an ending in it may be a version.
fn sibling_path(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
