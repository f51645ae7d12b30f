//! The render that is handed in, and renders side by side.

use crate::{Error, Result};

/// Renders the chart with the user's values and, behind them, the overlay (a YAML document, given
/// to helm as the last `-f`). Called from several threads at once.
pub type Render<'a> = dyn Fn(Option<&str>) -> Result<String, RenderError> + Sync + 'a;

/// Helm's own message about a render that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// The message as helm wrote it.
    pub message: String,
}

/// Renders once for each overlay, side by side, and gives the streams in their order.
pub(crate) fn streams(
    render: &Render,
    overlays: &[Option<String>],
) -> Vec<Result<String, RenderError>> {
    // Helm uses more than one core by itself.
    const SIDE_BY_SIDE: usize = 4;
    let mut results = Vec::with_capacity(overlays.len());
    for overlays in overlays.chunks(SIDE_BY_SIDE) {
        std::thread::scope(|scope| {
            let running: Vec<_> =
                overlays.iter().map(|overlay| scope.spawn(|| render(overlay.as_deref()))).collect();
            results.extend(running.into_iter().map(|thread| {
                let message = || "the render was cut off by a defect of Gantry".into();
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
