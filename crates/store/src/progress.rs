//! How long work tells of itself. Libraries call this; only the command line draws.

/// Receives the progress of one long operation. Called from many threads, often: implementations
/// must be cheap and must not block.
pub trait Progress: Send + Sync {
    /// More work became known: `bytes` are to be moved that were not counted before.
    fn expect(&self, bytes: u64);
    /// `bytes` were moved just now.
    fn advance(&self, bytes: u64);
    /// `bytes` of what was expected were there already and need not be moved.
    fn skip(&self, bytes: u64);
    /// A named thing is done (an image, a model, a volume).
    fn done(&self, name: &str);
    /// Something a person should know that is no failure (a retry, a missing signature).
    fn note(&self, message: &str);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn expect(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn skip(&self, _: u64) {}
    fn done(&self, _: &str) {}
    fn note(&self, _: &str) {}
}
