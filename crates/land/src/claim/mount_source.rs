//! In a seeder pod on a node: makes sure that the volume is the folder that was meant. The kubelet follows
//! symbolic links when it mounts a folder of the node, so `/var/lib/models` may be one to `/etc`. The
//! kernel's table of mounts says which folder of which file system is mounted (proc(5),
//! `/proc/PID/mountinfo`: the fourth field).

use std::path::Path;

use types::node_folder::NodeFolder;

/// The table of mounts of this process.
const TABLE: &str = "/proc/self/mountinfo";
/// How many names at the end of both paths have to be the same. The beginnings may differ without a
/// link: `/var` may be a file system of its own, and a subvolume of btrfs adds a name in front.
const SAME: usize = 2;

/// Checks that what is mounted at `mount` is this folder of the node.
///
/// # Errors
/// The message names the folder that it is instead.
pub(super) fn require_node_folder(mount: &Path, folder: &NodeFolder) -> Result<(), String> {
    let table = std::fs::read_to_string(TABLE)
        .map_err(|error| format!("cannot read {TABLE}, to see what is mounted: {error}"))?;
    check_mount_source(&table, mount, folder)
}

fn check_mount_source(table: &str, mount: &Path, folder: &NodeFolder) -> Result<(), String> {
    let mut source = None;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(3).map(unescape);
        if let (Some(root), Some(point)) = (fields.next(), fields.next())
            && Path::new(&point) == mount
        {
            // The last mount at a point covers the others.
            source = Some(root);
        }
    }
    let source = source.ok_or_else(|| format!("nothing is mounted at {}", mount.display()))?;
    let names = |path: &str| -> Vec<String> {
        path.rsplit('/').filter(|name| !name.is_empty()).take(SAME).map(str::to_owned).collect()
    };
    let (is, wanted) = (names(&source), names(folder.as_str()));
    // A file system that is mounted at the folder itself has no names left (`/`).
    if is == wanted[..is.len().min(wanted.len())] {
        return Ok(());
    }
    Err(format!(
        "{folder} of the node is {source} of its file system, behind a symbolic link or a bind mount: \
         write to that folder by its own path, and name it under nodeFolders: in site.yaml"
    ))
}

/// Undoes the escapes of the kernel: `\040` is a space.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                text.push(code.into());
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(root: &str, folder: &str) -> Result<(), String> {
        let table = format!(
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
             90 22 8:1 /elsewhere /models rw - ext4 /dev/sda1 rw\n\
             91 22 8:1 {root} /models rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             92 22 0:5 / /tmp rw - tmpfs tmpfs rw\n"
        );
        check_mount_source(&table, Path::new("/models"), &folder.parse().unwrap())
    }

    #[test]
    fn the_folder_may_be_on_any_file_system_and_not_behind_a_link() {
        for root in ["/var/lib/models", "/lib/models", "/models", "/", "/@/var/lib/models"] {
            assert_eq!(check(root, "/var/lib/models"), Ok(()), "{root}");
        }
        for root in ["/etc", "/var/lib/kubelet", "/mnt/x/models", "/var/lib", "/models2"] {
            let error = check(root, "/var/lib/models").unwrap_err();
            assert!(error.contains(&format!("is {root} of")), "{error}");
        }
        assert_eq!(check("/srv/my\\040models", "/srv/my models"), Ok(()));
    }

    #[test]
    fn a_volume_that_is_not_mounted_is_told() {
        let table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let folder = "/srv/models".parse().unwrap();
        let error = check_mount_source(table, Path::new("/models"), &folder).unwrap_err();
        assert_eq!(error, "nothing is mounted at /models");
    }
}
