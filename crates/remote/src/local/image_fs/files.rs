//! The file system that an image's layers result in, without the contents. Layers are applied in
//! order, with whiteouts and opaque folders (image-spec, layer.md, "Whiteouts"); links are resolved
//! inside the image, as containerd does it.
//!
//! For example, with the layers
//!
//! ```text
//! 0:  a/x  a/y  b/z
//! 1:  a/.wh.x (removes a/x)  b/.wh..wh..opq (removes everything below b of layer 0)  b/new
//! ```
//!
//! the result is `a/y`, whose content is in layer 0, and `b/new`, in layer 1. A whiteout removes
//! only what lower layers have, wherever it stands in its own layer. So every node has the number
//! of the newest layer that touched it, and [`ImageFileSystem::prune_lower`] compares that with the
//! current layer.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

use crate::tarball::{TarMember, TarMemberKind};
use crate::{Error, Result};

/// Limit for links on the way to a file: that of Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Limit for the files and folders of one image; the largest known ones have half a million.
const MAX_NODES: usize = 4 << 20;
/// Longest document whose content is kept when the layers are read the first time (refs of Hugging
/// Face caches, `.gitattributes`): they decide which files are wanted in the second pass.
const MAX_KEPT: u64 = 16 << 10;
/// Limit for all kept documents together.
const MAX_KEPT_TOTAL: usize = 16 << 20;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
const ROOT: u32 = 0;

/// Where a file's content is in the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileLocation {
    /// The number of the layer, from 0.
    pub(super) layer: u32,
    /// The number of the member in the layer's tar.
    pub(super) member: u32,
    pub(super) size: u64,
}

/// The file system of an image. Nodes refer to each other by their index in `nodes`.
pub(super) struct ImageFileSystem {
    nodes: Vec<FileNode>,
    layer: u32,
    member: u32,
    kept: BTreeMap<(u32, u32), Vec<u8>>,
    kept_total: usize,
}

struct FileNode {
    /// The newest layer that created or touched it.
    layer: u32,
    kind: FileNodeKind,
}

enum FileNodeKind {
    Folder(BTreeMap<Box<str>, u32>),
    File(FileLocation),
    Link(Box<str>),
    Other,
}

impl ImageFileSystem {
    pub(super) fn new() -> Self {
        let root = FileNode { layer: 0, kind: FileNodeKind::Folder(BTreeMap::new()) };
        Self { nodes: vec![root], layer: 0, member: 0, kept: BTreeMap::new(), kept_total: 0 }
    }

    /// Begins a layer: the members that are applied from now on belong to it.
    pub(super) fn begin_layer(&mut self, number: u32) {
        self.layer = number;
        self.member = 0;
    }

    /// Applies the next member of the current layer; `layer` is the layer's name in errors.
    pub(super) fn apply_member(
        &mut self,
        layer: &str,
        member: TarMember,
        content: &mut dyn Read,
    ) -> Result<()> {
        // Counted before anything else: the second pass over the layer counts all members, too.
        let number = self.member;
        self.member += 1;
        if self.nodes.len() > MAX_NODES {
            return Err(Error::Damaged {
                what: layer.to_owned(),
                reason: format!("the image has more than {MAX_NODES} files").into(),
            });
        }
        let (folder, name) = member.path.rsplit_once('/').unwrap_or(("", &member.path));
        if name.is_empty() {
            return Ok(());
        }
        if name == OPAQUE {
            if let Some(node) = self.find_node(folder) {
                self.prune_lower(node);
            }
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            // Names that begin with `.wh..wh.` are bookkeeping of aufs, not files of the image.
            if let Some(parent) = self.find_node(folder)
                && !gone.starts_with(WHITEOUT)
            {
                self.remove_lower(parent, gone);
            }
            return Ok(());
        }
        let Some(parent) = self.ensure_folder(folder) else {
            return Err(Error::Damaged {
                what: layer.to_owned(),
                reason: format!("the folder of {} leads to a loop of symbolic links", member.path)
                    .into(),
            });
        };
        let kind = match member.kind {
            TarMemberKind::Folder => {
                if let Some(child) = self.find_child(parent, name)
                    && matches!(self.nodes[child as usize].kind, FileNodeKind::Folder(_))
                {
                    // A folder that exists keeps its files: only its metadata is replaced.
                    self.nodes[child as usize].layer = self.layer;
                    return Ok(());
                }
                FileNodeKind::Folder(BTreeMap::new())
            }
            // The newest layer wins: the entry of a lower layer with the same name is replaced.
            TarMemberKind::File => {
                let place = FileLocation { layer: self.layer, member: number, size: member.size };
                self.keep_document(layer, &member.path, place, content)?;
                FileNodeKind::File(place)
            }
            TarMemberKind::Symlink(target) => FileNodeKind::Link(target.into_boxed_str()),
            TarMemberKind::Hardlink(target) => {
                self.resolve_hard_link(&target).ok_or_else(|| Error::Damaged {
                    what: layer.to_owned(),
                    reason: format!(
                        "{} is a hard link to {target}, which does not exist",
                        member.path
                    )
                    .into(),
                })?
            }
            TarMemberKind::Other => FileNodeKind::Other,
        };
        self.insert_node(parent, name, kind);
        Ok(())
    }

    /// The node at a path; all links are followed.
    pub(super) fn find_node(&self, path: &str) -> Option<u32> {
        self.walk_path(path).map(|(node, _)| node)
    }

    /// The path of a file after all links are followed.
    pub(super) fn real_path(&self, path: &str) -> Option<String> {
        self.walk_path(path).map(|(_, names)| names.join("/"))
    }

    /// The names in a folder, sorted; `None` when the node is not a folder.
    pub(super) fn list_names(&self, node: u32) -> Option<Vec<String>> {
        match &self.nodes[node as usize].kind {
            FileNodeKind::Folder(children) => {
                Some(children.keys().map(ToString::to_string).collect())
            }
            _ => None,
        }
    }

    /// Where a file's content is; `None` when the node is not a file.
    pub(super) fn file_location(&self, node: u32) -> Option<FileLocation> {
        match self.nodes[node as usize].kind {
            FileNodeKind::File(place) => Some(place),
            _ => None,
        }
    }

    /// The content of a small document that was kept.
    pub(super) fn kept_document(&self, place: FileLocation) -> Option<&[u8]> {
        self.kept.get(&(place.layer, place.member)).map(Vec::as_slice)
    }

    /// Why the content of a file that is named like a document was not kept: it is too large, or there
    /// are so many of them.
    pub(super) fn explain_unkept(what: String, place: FileLocation) -> Error {
        match place.size > MAX_KEPT {
            true => Error::TooLarge { what, size: place.size, most: MAX_KEPT },
            false => Error::Damaged {
                what,
                reason: format!(
                    "the image has more than {MAX_KEPT_TOTAL} bytes of small files like it (links, refs, .gitattributes), which is not a model"
                )
                .into(),
            },
        }
    }

    /// Keeps the content of a file that may be a document.
    fn keep_document(
        &mut self,
        layer: &str,
        path: &str,
        place: FileLocation,
        content: &mut dyn Read,
    ) -> Result<()> {
        if !is_document(path) || place.size > MAX_KEPT || self.kept_total > MAX_KEPT_TOTAL {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(place.size as usize);
        content
            .take(MAX_KEPT)
            .read_to_end(&mut bytes)
            .map_err(|cause| Error::Read { what: format!("{path} in {layer}"), cause })?;
        self.kept_total += bytes.len();
        self.kept.insert((place.layer, place.member), bytes);
        Ok(())
    }

    /// What a hard link to `target` becomes: a second name for the same content. A symbolic link at
    /// the end of `target` is not followed (link(2)).
    fn resolve_hard_link(&self, target: &str) -> Option<FileNodeKind> {
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        let node = self.find_child(self.find_node(folder)?, name)?;
        match &self.nodes[node as usize].kind {
            FileNodeKind::File(place) => Some(FileNodeKind::File(*place)),
            FileNodeKind::Link(target) => Some(FileNodeKind::Link(target.clone())),
            FileNodeKind::Other => Some(FileNodeKind::Other),
            FileNodeKind::Folder(_) => None,
        }
    }

    fn find_child(&self, folder: u32, name: &str) -> Option<u32> {
        match &self.nodes[folder as usize].kind {
            FileNodeKind::Folder(children) => children.get(name).copied(),
            _ => None,
        }
    }

    /// Adds a node to a folder, replacing what has the same name there.
    fn insert_node(&mut self, parent: u32, name: &str, kind: FileNodeKind) -> u32 {
        let node = self.nodes.len() as u32;
        self.nodes.push(FileNode { layer: self.layer, kind });
        if let FileNodeKind::Folder(children) = &mut self.nodes[parent as usize].kind {
            children.insert(name.into(), node);
        }
        node
    }

    /// Applies a whiteout: removes what lower layers have under the name. What the current layer
    /// itself has there stays, since the order of members in a layer has no meaning.
    fn remove_lower(&mut self, parent: u32, name: &str) {
        let Some(child) = self.find_child(parent, name) else { return };
        if self.nodes[child as usize].layer == self.layer {
            self.prune_lower(child);
        } else if let FileNodeKind::Folder(children) = &mut self.nodes[parent as usize].kind {
            children.remove(name);
        }
    }

    /// Removes everything that lower layers have below a folder.
    fn prune_lower(&mut self, folder: u32) {
        // A folder that the current layer touched may still have old children: search it as well.
        let mut open = vec![folder];
        while let Some(folder) = open.pop() {
            let FileNodeKind::Folder(children) = &self.nodes[folder as usize].kind else {
                continue;
            };
            let (own, old): (Vec<_>, Vec<_>) = children
                .iter()
                .map(|(name, node)| (name.clone(), *node))
                .partition(|(_, node)| self.nodes[*node as usize].layer == self.layer);
            open.extend(own.into_iter().map(|(_, node)| node));
            if let FileNodeKind::Folder(children) = &mut self.nodes[folder as usize].kind {
                for (name, _) in old {
                    children.remove(&name);
                }
            }
        }
    }

    /// Follows a path from the root, through links; returns the node and its real path.
    fn walk_path(&self, path: &str) -> Option<(u32, Vec<String>)> {
        let mut way = PathWalk::new(path);
        while let Some(segment) = way.next_segment() {
            let child = self.find_child(way.current_node(), &segment)?;
            match &self.nodes[child as usize].kind {
                FileNodeKind::Link(target) => way.follow_link(target)?,
                _ => way.enter_node(segment, child),
            }
        }
        Some((way.current_node(), way.into_names()))
    }

    /// The folder at a path, created where it does not exist. All folders on the way are marked as
    /// touched by the current layer, so that its own opaque markers do not remove them. `None` when
    /// the path leads through too many links.
    fn ensure_folder(&mut self, path: &str) -> Option<u32> {
        let mut way = PathWalk::new(path);
        self.nodes[ROOT as usize].layer = self.layer;
        while let Some(segment) = way.next_segment() {
            let child = match self.find_child(way.current_node(), &segment) {
                Some(child) => child,
                None => self.insert_node(
                    way.current_node(),
                    &segment,
                    FileNodeKind::Folder(BTreeMap::new()),
                ),
            };
            match &self.nodes[child as usize].kind {
                FileNodeKind::Link(target) => {
                    let target = target.clone();
                    way.follow_link(&target)?;
                }
                FileNodeKind::Folder(_) => {
                    self.nodes[child as usize].layer = self.layer;
                    way.enter_node(segment, child);
                }
                // A layer may replace a file by a folder without a whiteout.
                FileNodeKind::File(_) | FileNodeKind::Other => {
                    let folder = self.insert_node(
                        way.current_node(),
                        &segment,
                        FileNodeKind::Folder(BTreeMap::new()),
                    );
                    way.enter_node(segment, folder);
                }
            }
        }
        Some(way.current_node())
    }
}

/// Whether a file may be a document whose content is needed: a ref, a `.gitattributes`, or a blob
/// of a Hugging Face cache under its git id (in a cache `.gitattributes` is a link to such a blob).
fn is_document(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_git_blob =
        path.contains("/blobs/") && name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
    path.contains("/refs/") || name == ".gitattributes" || is_git_blob
}

/// The state while a path is followed: the nodes passed so far, and the segments that are left. A
/// link puts the segments of its target in front of those that are left.
struct PathWalk {
    behind: Vec<(String, u32)>,
    ahead: VecDeque<String>,
    links: usize,
}

impl PathWalk {
    fn new(path: &str) -> Self {
        Self { behind: vec![], ahead: split_segments(path).collect(), links: 0 }
    }

    /// The next segment that is a name; `.` and `..` are resolved here.
    fn next_segment(&mut self) -> Option<String> {
        loop {
            match self.ahead.pop_front()?.as_str() {
                "" | "." => {}
                // At the root nothing is left to pop: a path never leaves the image.
                ".." => {
                    self.behind.pop();
                }
                name => return Some(name.to_owned()),
            }
        }
    }

    fn current_node(&self) -> u32 {
        self.behind.last().map_or(ROOT, |(_, node)| *node)
    }

    fn enter_node(&mut self, name: String, node: u32) {
        self.behind.push((name, node));
    }

    /// Follows a link to `target`; `None` when there were too many links.
    fn follow_link(&mut self, target: &str) -> Option<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return None;
        }
        // An absolute target begins at the image's root, not at that of this machine.
        if target.starts_with('/') {
            self.behind.clear();
        }
        for segment in split_segments(target).rev() {
            self.ahead.push_front(segment);
        }
        Some(())
    }

    fn into_names(self) -> Vec<String> {
        self.behind.into_iter().map(|(name, _)| name).collect()
    }
}

fn split_segments(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn build_file_system(layers: &[&[(&str, TarMemberKind)]]) -> ImageFileSystem {
        let mut files = ImageFileSystem::new();
        for (number, members) in layers.iter().enumerate() {
            files.begin_layer(number as u32);
            for (path, kind) in *members {
                let member =
                    TarMember { path: (*path).to_owned(), kind: kind.clone(), size: 0, offset: 0 };
                files.apply_member("layer", member, &mut std::io::empty()).unwrap();
            }
        }
        files
    }

    fn symlink_to(target: &str) -> TarMemberKind {
        TarMemberKind::Symlink(target.to_owned())
    }

    fn find_layer(files: &ImageFileSystem, path: &str) -> Option<u32> {
        files.find_node(path).and_then(|node| files.file_location(node)).map(|place| place.layer)
    }

    #[test]
    fn whiteouts_take_away_what_lower_layers_have() {
        let files = build_file_system(&[
            &[
                ("a/x", TarMemberKind::File),
                ("a/y", TarMemberKind::File),
                ("b/z", TarMemberKind::File),
            ],
            &[("a/.wh.x", TarMemberKind::File), (".wh.b", TarMemberKind::File)],
        ]);
        assert_eq!(find_layer(&files, "a/x"), None);
        assert_eq!(find_layer(&files, "a/y"), Some(0));
        assert_eq!(files.find_node("b"), None);
    }

    #[test]
    fn an_opaque_folder_keeps_what_its_own_layer_has_wherever_the_mark_stands() {
        let files = build_file_system(&[
            &[("a/old", TarMemberKind::File), ("a/d/old", TarMemberKind::File)],
            &[
                ("a/new", TarMemberKind::File),
                ("a/d/new", TarMemberKind::File),
                ("a/.wh..wh..opq", TarMemberKind::File),
            ],
        ]);
        assert_eq!(find_layer(&files, "a/new"), Some(1));
        assert_eq!(find_layer(&files, "a/d/new"), Some(1));
        assert_eq!(find_layer(&files, "a/old"), None);
        assert_eq!(find_layer(&files, "a/d/old"), None);
    }

    #[test]
    fn links_are_resolved_inside_the_image_and_never_leave_it() {
        let files = build_file_system(&[
            &[("data/models/x", TarMemberKind::File), ("etc/passwd", TarMemberKind::File)],
            &[
                ("app/cache", symlink_to("/data/models")),
                ("up", symlink_to("../../../../etc")),
                ("circle", symlink_to("circle")),
                ("lib", symlink_to("usr/lib")),
            ],
            &[("lib/new", TarMemberKind::File)],
        ]);
        assert_eq!(find_layer(&files, "app/cache/x"), Some(0));
        assert_eq!(files.real_path("app/cache/x").unwrap(), "data/models/x");
        assert_eq!(find_layer(&files, "up/passwd"), Some(0));
        assert_eq!(files.find_node("circle"), None);
        assert_eq!(find_layer(&files, "usr/lib/new"), Some(2), "written through the link");
    }

    #[test]
    fn a_hard_link_is_the_same_content() {
        let files = build_file_system(&[
            &[("a", TarMemberKind::File)],
            &[("b", TarMemberKind::Hardlink("a".into())), (".wh.a", TarMemberKind::File)],
        ]);
        assert_eq!(find_layer(&files, "b"), Some(0));
        assert_eq!(find_layer(&files, "a"), None);
    }

    proptest::proptest! {
        /// Whatever links and whiteouts the layers have, every lookup ends.
        #[test]
        fn any_layers_make_a_file_system_that_ends(
            members in proptest::collection::vec(
                ("(\\.wh\\.)?[ab](/(\\.wh\\.)?[ab]){0,3}(/\\.wh\\.\\.wh\\.\\.opq)?", 0_u8..4, "(/|\\.\\./)?[ab](/[ab]|/\\.\\.){0,3}"),
                0..40,
            ),
        ) {
            let mut files = ImageFileSystem::new();
            for (number, (path, kind, target)) in members.into_iter().enumerate() {
                files.begin_layer((number / 5) as u32);
                let kind = match kind {
                    0 => TarMemberKind::File,
                    1 => TarMemberKind::Folder,
                    2 => TarMemberKind::Symlink(target),
                    _ => TarMemberKind::Hardlink(crate::tarball::normalize_path(&target)),
                };
                let member = TarMember { path, kind, size: 0, offset: 0 };
                let _ = files.apply_member("layer", member, &mut std::io::empty());
            }
            for path in ["a", "b/a", "a/b/a", "a/../b"] {
                if let Some(node) = files.find_node(path) {
                    let real = files.real_path(path).unwrap();
                    proptest::prop_assert_eq!(files.find_node(&real), Some(node));
                }
            }
        }
    }
}
