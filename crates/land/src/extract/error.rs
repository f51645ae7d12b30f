//! What can go wrong when content is given back as files.

use std::path::PathBuf;

/// An error of extracting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or pattern fits nothing of the source.
    #[error("the source has nothing called {name:?}{}", suggest(near))]
    NothingNamed {
        /// The name.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// The source has no roots to extract.
    #[error("the source has no images, charts, models or files")]
    Nothing,
    /// A pattern is not valid.
    #[error(transparent)]
    Pattern(#[from] remote::Error),
    /// Files or folders of these names are there, with other content.
    #[error(
        "{} already there with other content: {}; choose another folder, or overwrite with --force",
        is_or_are(paths),
        join_paths(paths)
    )]
    Exists {
        /// The files and folders.
        paths: Vec<PathBuf>,
    },
    /// A folder is where a file has to go, or the other way round.
    #[error("{} is in the way: {reason}; move it away", path.display())]
    InTheWay {
        /// What is there.
        path: PathBuf,
        /// Why it cannot be replaced.
        reason: &'static str,
    },
    /// The source could not be read, its bytes do not have their digest, or the disk is full.
    #[error(transparent)]
    Source(#[from] store::Error),
    /// A document of the source is not valid.
    #[error(transparent)]
    Document(#[from] types::Error),
    /// The folder could not be read or written.
    #[error("{}: {cause}", path.display())]
    Disk {
        /// What was read or written.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
}

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A closure that names the path in an IO error.
pub(super) fn disk_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |cause| Error::Disk { path, cause }
}

fn suggest(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}

fn is_or_are(paths: &[PathBuf]) -> &'static str {
    if paths.len() == 1 { "this is" } else { "these are" }
}

/// Paths for a message: a few of them.
fn join_paths(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
