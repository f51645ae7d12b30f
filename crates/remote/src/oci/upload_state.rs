//! What one run knows of uploads to its registry, shared by all its uploads: how long a piece may
//! be, whether the registry takes pieces and mounts, and which uploads had to start again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use types::Digest;

use super::upload_session_folder::{KeptUploadFile, UploadSessionFolder};

/// The length of the first piece, before the line's speed is known.
const FIRST_PIECE: u64 = 16 << 20;
/// The longest piece: what is sent again after a kill. docker-registry syncs its file after each.
const LONGEST_PIECE: u64 = 64 << 20;
/// The shortest one on a slow line.
const SLOW_PIECE: u64 = 4 << 20;
/// The lengths that are tried one after the other when a proxy refuses longer bodies (413). nginx's
/// default limit is 1 MiB.
const SMALLER_PIECES: [u64; 5] = [16 << 20, 4 << 20, 1 << 20, 256 << 10, 64 << 10];
/// Pieces that take less get longer, those that take more shorter: a run that is asked to stop
/// finishes its pieces first.
const FAST: Duration = Duration::from_secs(2);
const SLOW: Duration = Duration::from_secs(8);

/// A blob of which an earlier part of its upload could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartedUpload {
    /// The repository, without the registry.
    pub repository: String,
    /// The blob.
    pub digest: Digest,
    /// How many bytes were sent again.
    pub bytes: u64,
}

/// What one run knows of uploads to its registry.
pub(super) struct UploadState {
    kept: Option<UploadSessionFolder>,
    /// The length of the next piece, by the speed of those before.
    piece: AtomicU64,
    /// What a proxy lets through.
    longest: AtomicU64,
    takes_pieces: AtomicBool,
    takes_mounts: AtomicBool,
    is_stopping: AtomicBool,
    restarted: Mutex<Vec<RestartedUpload>>,
}

impl UploadState {
    pub(super) fn new() -> Self {
        Self {
            kept: None,
            piece: AtomicU64::new(FIRST_PIECE),
            longest: AtomicU64::new(LONGEST_PIECE),
            takes_pieces: AtomicBool::new(true),
            takes_mounts: AtomicBool::new(true),
            is_stopping: AtomicBool::new(false),
            restarted: Mutex::default(),
        }
    }

    /// Keeps uploads in this folder.
    pub(super) fn keep_in(&mut self, folder: PathBuf) {
        self.kept = Some(UploadSessionFolder::new(folder));
    }

    pub(super) fn take_file(
        &self,
        registry: &str,
        repository: &str,
        digest: &Digest,
    ) -> Option<KeptUploadFile> {
        self.kept.as_ref()?.take_file(registry, repository, digest)
    }

    /// How long the next piece may be, where the registry asks for at least `least` bytes.
    pub(super) fn piece_length(&self, least: u64) -> u64 {
        let longest = self.longest.load(Ordering::Relaxed);
        self.piece.load(Ordering::Relaxed).min(longest).max(least)
    }

    /// Chooses the length of the next pieces by the time that one took.
    pub(super) fn record_piece(&self, length: u64, time: Duration) {
        if length < self.piece.load(Ordering::Relaxed) {
            return;
        }
        let next = match time {
            time if time < FAST => (length * 2).min(LONGEST_PIECE),
            time if time > SLOW => (length / 2).max(SLOW_PIECE),
            _ => return,
        };
        self.piece.store(next, Ordering::Relaxed);
    }

    /// Makes pieces shorter than one of `length` bytes, which did not get through. `false` when
    /// there is no shorter one, or the registry takes none (`least`).
    pub(super) fn shorten_pieces(&self, length: u64, least: u64) -> bool {
        let Some(shorter) = SMALLER_PIECES.into_iter().find(|shorter| *shorter < length) else {
            return false;
        };
        self.longest.fetch_min(shorter, Ordering::Relaxed);
        self.takes_pieces() && shorter >= least
    }

    pub(super) fn takes_pieces(&self) -> bool {
        self.takes_pieces.load(Ordering::Relaxed)
    }

    /// The registry has no uploads in pieces.
    pub(super) fn refuse_pieces(&self) {
        self.takes_pieces.store(false, Ordering::Relaxed);
    }

    pub(super) fn takes_mounts(&self) -> bool {
        self.takes_mounts.load(Ordering::Relaxed)
    }

    /// The registry refused a mount; it is not asked for another one.
    pub(super) fn refuse_mounts(&self) {
        self.takes_mounts.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Lets every upload end after the piece that it is sending.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Notes that the first `bytes` of a blob have to be sent again.
    pub(super) fn record_restart(&self, repository: &str, digest: Digest, bytes: u64) {
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        restarted.push(RestartedUpload { repository: repository.to_owned(), digest, bytes });
    }

    pub(super) fn restarted_uploads(&self) -> Vec<RestartedUpload> {
        self.restarted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_the_speed_of_the_line_and_the_limit_of_a_proxy() {
        let state = UploadState::new();
        let after = |seconds| {
            let length = state.piece_length(0);
            state.record_piece(length, Duration::from_secs(seconds));
            state.piece_length(0) >> 20
        };
        assert_eq!([after(1), after(1), after(1)], [32, 64, 64]);
        assert_eq!([after(5), after(9), after(30)], [64, 32, 16]);
        assert_eq!(state.piece_length(100 << 20), 100 << 20);

        assert!(state.shorten_pieces(50 << 20, 0));
        assert!(state.shorten_pieces(16 << 20, 0));
        assert_eq!(state.piece_length(0), 4 << 20);
        assert!(!state.shorten_pieces(4 << 20, 2 << 20), "the registry takes none of 1 MiB");
        assert!(!state.shorten_pieces(64 << 10, 0));
    }
}
