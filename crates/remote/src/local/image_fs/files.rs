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

use crate::tarball::{Kind, Member};
use crate::{Error, Result};

/// Limit for links on the way to a file: that of Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Limit for the files and folders of one image; the largest known ones have half a million.
const MAX_NODES: usize = 4 << 20;
/// Longest document whose content is kept when the layers are read the first time (refs of Hugging
/// Face caches, `.gitattributes`): they decide which files are wanted in the second pass.
pub(super) const MAX_KEPT: u64 = 16 << 10;
/// Limit for all kept documents together.
const MAX_KEPT_TOTAL: usize = 16 << 20;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
const ROOT: u32 = 0;

/// Where a file's content is in the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The number of the layer, from 0.
    pub(super) layer: u32,
    /// The number of the member in the layer's tar.
    pub(super) member: u32,
    pub(super) size: u64,
}

/// The file system of an image. Nodes refer to each other by their index in `nodes`.
pub(super) struct Files {
    nodes: Vec<Node>,
    layer: u32,
    member: u32,
    kept: BTreeMap<(u32, u32), Vec<u8>>,
    kept_total: usize,
}

struct Node {
    /// The newest layer that created or touched it.
    layer: u32,
    kind: NodeKind,
}

enum NodeKind {
    Folder(BTreeMap<Box<str>, u32>),
    File(Place),
    Link(Box<str>),
    Other,
}

impl Files {
    pub(super) fn new() -> Self {
        let root = Node { layer: 0, kind: NodeKind::Folder(BTreeMap::new()) };
        Self { nodes: vec![root], layer: 0, member: 0, kept: BTreeMap::new(), kept_total: 0 }
    }

    /// Begins a layer: the members that are applied from now on belong to it.
    pub(super) fn begin_layer(&mut self, number: u32) {
        self.layer = number;
        self.member = 0;
    }

    /// Applies the next member of the current layer; `layer` is the layer's name in errors.
    pub(super) fn apply(
        &mut self,
        layer: &str,
        member: Member,
        content: &mut dyn Read,
    ) -> Result<()> {
        // Counted before anything else: the second pass over the layer counts all members, too.
        let number = self.member;
        self.member += 1;
        if self.nodes.len() > MAX_NODES {
            return Err(Error::Damaged {
                what: layer.to_owned(),
                reason: format!("the image has more than {MAX_NODES} files"),
            });
        }
        let (folder, name) = member.path.rsplit_once('/').unwrap_or(("", &member.path));
        if name.is_empty() {
            return Ok(());
        }
        if name == OPAQUE {
            if let Some(node) = self.find(folder) {
                self.prune(node);
            }
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            // Names that begin with `.wh..wh.` are bookkeeping of aufs, not files of the image.
            if let Some(parent) = self.find(folder)
                && !gone.starts_with(WHITEOUT)
            {
                self.remove(parent, gone);
            }
            return Ok(());
        }
        let Some(parent) = self.folder_for_writing(folder) else {
            return Err(Error::Damaged {
                what: layer.to_owned(),
                reason: format!("the folder of {} leads to a loop of symbolic links", member.path),
            });
        };
        let kind = match member.kind {
            Kind::Folder => {
                if let Some(child) = self.child(parent, name)
                    && matches!(self.nodes[child as usize].kind, NodeKind::Folder(_))
                {
                    // A folder that exists keeps its files: only its metadata is replaced.
                    self.nodes[child as usize].layer = self.layer;
                    return Ok(());
                }
                NodeKind::Folder(BTreeMap::new())
            }
            // The newest layer wins: the entry of a lower layer with the same name is replaced.
            Kind::File => {
                let place = Place { layer: self.layer, member: number, size: member.size };
                self.keep(layer, &member.path, place, content)?;
                NodeKind::File(place)
            }
            Kind::Symlink(target) => NodeKind::Link(target.into_boxed_str()),
            Kind::Hardlink(target) => self.linked(&target).ok_or_else(|| Error::Damaged {
                what: layer.to_owned(),
                reason: format!("{} is a hard link to {target}, which does not exist", member.path),
            })?,
            Kind::Other => NodeKind::Other,
        };
        self.put(parent, name, kind);
        Ok(())
    }

    /// The node at a path; all links are followed.
    pub(super) fn find(&self, path: &str) -> Option<u32> {
        self.walk(path).map(|(node, _)| node)
    }

    /// The path of a file after all links are followed.
    pub(super) fn real_path(&self, path: &str) -> Option<String> {
        self.walk(path).map(|(_, names)| names.join("/"))
    }

    /// The names in a folder, sorted; `None` when the node is not a folder.
    pub(super) fn names(&self, node: u32) -> Option<Vec<String>> {
        match &self.nodes[node as usize].kind {
            NodeKind::Folder(children) => Some(children.keys().map(ToString::to_string).collect()),
            _ => None,
        }
    }

    /// Where a file's content is; `None` when the node is not a file.
    pub(super) fn place(&self, node: u32) -> Option<Place> {
        match self.nodes[node as usize].kind {
            NodeKind::File(place) => Some(place),
            _ => None,
        }
    }

    /// The content of a small document that was kept.
    pub(super) fn kept(&self, place: Place) -> Option<&[u8]> {
        self.kept.get(&(place.layer, place.member)).map(Vec::as_slice)
    }

    /// Keeps the content of a file that may be a document.
    fn keep(
        &mut self,
        layer: &str,
        path: &str,
        place: Place,
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
    fn linked(&self, target: &str) -> Option<NodeKind> {
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        let node = self.child(self.find(folder)?, name)?;
        match &self.nodes[node as usize].kind {
            NodeKind::File(place) => Some(NodeKind::File(*place)),
            NodeKind::Link(target) => Some(NodeKind::Link(target.clone())),
            NodeKind::Other => Some(NodeKind::Other),
            NodeKind::Folder(_) => None,
        }
    }

    fn child(&self, folder: u32, name: &str) -> Option<u32> {
        match &self.nodes[folder as usize].kind {
            NodeKind::Folder(children) => children.get(name).copied(),
            _ => None,
        }
    }

    /// Adds a node to a folder, replacing what has the same name there.
    fn put(&mut self, parent: u32, name: &str, kind: NodeKind) -> u32 {
        let node = self.nodes.len() as u32;
        self.nodes.push(Node { layer: self.layer, kind });
        if let NodeKind::Folder(children) = &mut self.nodes[parent as usize].kind {
            children.insert(name.into(), node);
        }
        node
    }

    /// Applies a whiteout: removes what lower layers have under the name. What the current layer
    /// itself has there stays, since the order of members in a layer has no meaning.
    fn remove(&mut self, parent: u32, name: &str) {
        let Some(child) = self.child(parent, name) else { return };
        if self.nodes[child as usize].layer == self.layer {
            self.prune(child);
        } else if let NodeKind::Folder(children) = &mut self.nodes[parent as usize].kind {
            children.remove(name);
        }
    }

    /// Removes everything that lower layers have below a folder.
    fn prune(&mut self, folder: u32) {
        // A folder that the current layer touched may still have old children: search it as well.
        let mut open = vec![folder];
        while let Some(folder) = open.pop() {
            let NodeKind::Folder(children) = &self.nodes[folder as usize].kind else { continue };
            let (own, old): (Vec<_>, Vec<_>) = children
                .iter()
                .map(|(name, node)| (name.clone(), *node))
                .partition(|(_, node)| self.nodes[*node as usize].layer == self.layer);
            open.extend(own.into_iter().map(|(_, node)| node));
            if let NodeKind::Folder(children) = &mut self.nodes[folder as usize].kind {
                for (name, _) in old {
                    children.remove(&name);
                }
            }
        }
    }

    /// Follows a path from the root, through links; returns the node and its real path.
    fn walk(&self, path: &str) -> Option<(u32, Vec<String>)> {
        let mut way = Way::new(path);
        while let Some(segment) = way.next() {
            let child = self.child(way.here(), &segment)?;
            match &self.nodes[child as usize].kind {
                NodeKind::Link(target) => way.follow(target)?,
                _ => way.enter(segment, child),
            }
        }
        Some((way.here(), way.names()))
    }

    /// The folder at a path, created where it does not exist. All folders on the way are marked as
    /// touched by the current layer, so that its own opaque markers do not remove them. `None` when
    /// the path leads through too many links.
    fn folder_for_writing(&mut self, path: &str) -> Option<u32> {
        let mut way = Way::new(path);
        self.nodes[ROOT as usize].layer = self.layer;
        while let Some(segment) = way.next() {
            let child = match self.child(way.here(), &segment) {
                Some(child) => child,
                None => self.put(way.here(), &segment, NodeKind::Folder(BTreeMap::new())),
            };
            match &self.nodes[child as usize].kind {
                NodeKind::Link(target) => {
                    let target = target.clone();
                    way.follow(&target)?;
                }
                NodeKind::Folder(_) => {
                    self.nodes[child as usize].layer = self.layer;
                    way.enter(segment, child);
                }
                // A layer may replace a file by a folder without a whiteout.
                NodeKind::File(_) | NodeKind::Other => {
                    let folder = self.put(way.here(), &segment, NodeKind::Folder(BTreeMap::new()));
                    way.enter(segment, folder);
                }
            }
        }
        Some(way.here())
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
struct Way {
    behind: Vec<(String, u32)>,
    ahead: VecDeque<String>,
    links: usize,
}

impl Way {
    fn new(path: &str) -> Self {
        Self { behind: vec![], ahead: segments(path).collect(), links: 0 }
    }

    /// The next segment that is a name; `.` and `..` are resolved here.
    fn next(&mut self) -> Option<String> {
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

    fn here(&self) -> u32 {
        self.behind.last().map_or(ROOT, |(_, node)| *node)
    }

    fn enter(&mut self, name: String, node: u32) {
        self.behind.push((name, node));
    }

    /// Follows a link to `target`; `None` when there were too many links.
    fn follow(&mut self, target: &str) -> Option<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return None;
        }
        // An absolute target begins at the image's root, not at that of this machine.
        if target.starts_with('/') {
            self.behind.clear();
        }
        for segment in segments(target).rev() {
            self.ahead.push_front(segment);
        }
        Some(())
    }

    fn names(self) -> Vec<String> {
        self.behind.into_iter().map(|(name, _)| name).collect()
    }
}

fn segments(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn layers(layers: &[&[(&str, Kind)]]) -> Files {
        let mut files = Files::new();
        for (number, members) in layers.iter().enumerate() {
            files.begin_layer(number as u32);
            for (path, kind) in *members {
                let member =
                    Member { path: (*path).to_owned(), kind: kind.clone(), size: 0, offset: 0 };
                files.apply("layer", member, &mut std::io::empty()).unwrap();
            }
        }
        files
    }

    fn link(target: &str) -> Kind {
        Kind::Symlink(target.to_owned())
    }

    fn layer_of(files: &Files, path: &str) -> Option<u32> {
        files.find(path).and_then(|node| files.place(node)).map(|place| place.layer)
    }

    #[test]
    fn whiteouts_take_away_what_lower_layers_have() {
        let files = layers(&[
            &[("a/x", Kind::File), ("a/y", Kind::File), ("b/z", Kind::File)],
            &[("a/.wh.x", Kind::File), (".wh.b", Kind::File)],
        ]);
        assert_eq!(layer_of(&files, "a/x"), None);
        assert_eq!(layer_of(&files, "a/y"), Some(0));
        assert_eq!(files.find("b"), None);
    }

    #[test]
    fn an_opaque_folder_keeps_what_its_own_layer_has_wherever_the_mark_stands() {
        let files = layers(&[
            &[("a/old", Kind::File), ("a/d/old", Kind::File)],
            &[("a/new", Kind::File), ("a/d/new", Kind::File), ("a/.wh..wh..opq", Kind::File)],
        ]);
        assert_eq!(layer_of(&files, "a/new"), Some(1));
        assert_eq!(layer_of(&files, "a/d/new"), Some(1));
        assert_eq!(layer_of(&files, "a/old"), None);
        assert_eq!(layer_of(&files, "a/d/old"), None);
    }

    #[test]
    fn links_are_resolved_inside_the_image_and_never_leave_it() {
        let files = layers(&[
            &[("data/models/x", Kind::File), ("etc/passwd", Kind::File)],
            &[
                ("app/cache", link("/data/models")),
                ("up", link("../../../../etc")),
                ("circle", link("circle")),
                ("lib", link("usr/lib")),
            ],
            &[("lib/new", Kind::File)],
        ]);
        assert_eq!(layer_of(&files, "app/cache/x"), Some(0));
        assert_eq!(files.real_path("app/cache/x").unwrap(), "data/models/x");
        assert_eq!(layer_of(&files, "up/passwd"), Some(0));
        assert_eq!(files.find("circle"), None);
        assert_eq!(layer_of(&files, "usr/lib/new"), Some(2), "written through the link");
    }

    #[test]
    fn a_hard_link_is_the_same_content() {
        let files = layers(&[
            &[("a", Kind::File)],
            &[("b", Kind::Hardlink("a".into())), (".wh.a", Kind::File)],
        ]);
        assert_eq!(layer_of(&files, "b"), Some(0));
        assert_eq!(layer_of(&files, "a"), None);
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
            let mut files = Files::new();
            for (number, (path, kind, target)) in members.into_iter().enumerate() {
                files.begin_layer((number / 5) as u32);
                let kind = match kind {
                    0 => Kind::File,
                    1 => Kind::Folder,
                    2 => Kind::Symlink(target),
                    _ => Kind::Hardlink(crate::tarball::normal(&target)),
                };
                let member = Member { path, kind, size: 0, offset: 0 };
                let _ = files.apply("layer", member, &mut std::io::empty());
            }
            for path in ["a", "b/a", "a/b/a", "a/../b"] {
                if let Some(node) = files.find(path) {
                    let real = files.real_path(path).unwrap();
                    proptest::prop_assert_eq!(files.find(&real), Some(node));
                }
            }
        }
    }
}
