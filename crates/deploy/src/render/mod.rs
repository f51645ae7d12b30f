//! Releases as files, for repositories that Argo CD and Flux follow: what a deploy would install, one
//! object a file.
//!
//! Data flow: [`crate::prepare::ReleasePreparer::render_release`] turns a prepared release into a
//! [`RenderedRelease`], patched, moved and proven once more; [`RenderFolder::find_changes`] compares its
//! files with those of a former run. The same input always gives the same bytes: names follow from the
//! objects, and what a chart makes up anew in each render (a password) stays as the former run wrote it.

mod file_head;
mod folder;
mod object_file;
mod rendered_release;

pub use folder::{ChangedFile, FolderChanges, RenderFolder, RenderScope};
pub use object_file::ObjectFile;
pub use rendered_release::{HookManifests, RenderedRelease};
