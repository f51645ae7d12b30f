//! The function by which the caller renders a chart, and running several renders in parallel.

use crate::{Error, Result};

/// Renders the chart with the user's values and then, as helm's last `-f`, an optional overlay (the
/// text of a YAML document). Returns the rendered stream; with an overlay, it may be without the files
/// of `crds/`, which are the same in all renders. Called from several threads at once.
pub type RenderFunction<'a> = dyn Fn(Option<&str>) -> Result<String, RenderError> + Sync + 'a;

/// Helm's own message about a render that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// The message as helm wrote it.
    pub message: String,
}

/// Renders once for each overlay, in parallel, and returns the streams in the order of the
/// overlays.
pub(crate) fn render_streams(
    render: &RenderFunction,
    overlays: &[Option<String>],
) -> Vec<Result<String, RenderError>> {
    // Each render is a helm process that itself uses more than one core and holds the whole chart
    // in memory.
    const SIDE_BY_SIDE: usize = 4;
    let mut results = Vec::with_capacity(overlays.len());
    for overlays in overlays.chunks(SIDE_BY_SIDE) {
        std::thread::scope(|scope| {
            let running: Vec<_> =
                overlays.iter().map(|overlay| scope.spawn(|| render(overlay.as_deref()))).collect();
            results.extend(running.into_iter().map(|thread| {
                let message = || "rendering failed because of a bug in Gantry".into();
                thread.join().unwrap_or_else(|_| Err(RenderError { message: message() }))
            }));
        });
    }
    results
}

impl From<RenderError> for Error {
    fn from(error: RenderError) -> Self {
        Self::Render { message: error.message }
    }
}
