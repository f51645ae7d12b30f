//! Progress reports of long operations. Library crates call the trait; only `cli` implements it on a
//! terminal.

/// Receives the progress of one long operation. It is called often and from many threads, so
/// implementations must be cheap and must not block.
pub trait Progress: Send + Sync {
    /// `bytes` more have to be transferred than was known before.
    fn expect_bytes(&self, bytes: u64);
    /// `bytes` were transferred since the last call.
    fn advance_bytes(&self, bytes: u64);
    /// `bytes` of the expected ones exist at the target and are not transferred.
    fn skip_bytes(&self, bytes: u64);
    /// Bytes of this item are transferred from now on, until [`Progress::end_item`] is called with the
    /// same name. Several items may be transferred at once, and one several times (its blobs).
    fn start_item(&self, _name: &str) {}
    /// The transfer that began with [`Progress::start_item`] has ended, whether it succeeded or not.
    fn end_item(&self, _name: &str) {}
    /// A named item is finished (an image, a model, a bundle file).
    fn finish_item(&self, name: &str);
    /// A message that a person should see although nothing failed (a retry, a missing signature).
    fn add_note(&self, message: &str);
}

/// Ignores all progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentProgress;

impl Progress for SilentProgress {
    fn expect_bytes(&self, _: u64) {}
    fn advance_bytes(&self, _: u64) {}
    fn skip_bytes(&self, _: u64) {}
    fn finish_item(&self, _: &str) {}
    fn add_note(&self, _: &str) {}
}
