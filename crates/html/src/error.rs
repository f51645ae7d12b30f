//! The error of rendering a page.

/// Why a page cannot be rendered; it is a bug.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template failed.
    #[error("the HTML page cannot be rendered")]
    Render(#[from] askama::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
