//! In the seeder pod: a [`Source`] whose blobs come from the Gantry that started the pod. Requests go
//! out on standard output, replies come in on standard input ([`super::frame`] has the format).
//!
//! Since it is a `Source` like any other, the code that writes a volume here is the code that writes
//! a folder on a workstation.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use store::{Error, Result, Source, SourceReader};
use types::{Digest, Root};

use super::frame::{HEAD, PIECE, PieceHeader, PieceRequest};

/// Pieces of one file that are requested ahead. 8 MiB are more than the API server, the kubelet and
/// the container runtime buffer between them, so that the connection is never idle.
const WINDOW: usize = 8;

/// The blobs of the Gantry that started this pod.
pub(super) struct ExecSource {
    sizes: BTreeMap<Digest, u64>,
    streams: Arc<ExecStreams>,
}

/// The two streams, shared by all readers: requests have numbers, replies find their reader by them.
struct ExecStreams {
    requests: Mutex<Box<dyn Write + Send>>,
    pending: Mutex<PendingReplies>,
    next_id: AtomicU32,
}

/// Where the reply to each request goes; `None` once the connection broke and no reply can come.
struct PendingReplies(Option<HashMap<u32, SyncSender<PieceReply>>>);

/// The bytes of a piece, or the other side's reason why it cannot be read.
type PieceReply = Result<Vec<u8>, String>;

impl ExecSource {
    /// Blobs of these sizes, over these streams. `on_end` is called when the other side closes its
    /// stream, which it does when its user stops it or its connection breaks.
    pub(super) fn new(
        sizes: BTreeMap<Digest, u64>,
        answers: impl Read + Send + 'static,
        requests: impl Write + Send + 'static,
        on_end: impl FnOnce() + Send + 'static,
    ) -> Self {
        let line = Arc::new(ExecStreams {
            requests: Mutex::new(Box::new(requests)),
            pending: Mutex::new(PendingReplies(Some(HashMap::new()))),
            next_id: AtomicU32::new(0),
        });
        let reading = Arc::clone(&line);
        thread::spawn(move || {
            let _ = reading.receive_replies(answers);
            // This drops all senders: whoever waits for a reply finds its channel closed.
            reading.lock_pending().0 = None;
            on_end();
        });
        Self { sizes, streams: line }
    }
}

impl ExecStreams {
    /// Hands replies to whoever waits for them, until the stream ends.
    fn receive_replies(&self, mut answers: impl Read) -> io::Result<()> {
        let mut head = [0; HEAD];
        loop {
            answers.read_exact(&mut head)?;
            let head = PieceHeader::parse(&head)?;
            let mut bytes = vec![0; head.length as usize];
            answers.read_exact(&mut bytes)?;
            let answer = if head.is_piece {
                Ok(bytes)
            } else {
                Err(String::from_utf8_lossy(&bytes).into_owned())
            };
            let waiting = self.lock_pending().0.as_mut().and_then(|all| all.remove(&head.id));
            if let Some(waiting) = waiting {
                // A reader that was dropped meanwhile needs no reply.
                let _ = waiting.send(answer);
            }
        }
    }

    /// Sends a request for a piece; does not wait for the reply.
    fn request_piece(&self, digest: Digest, start: u64, length: u32) -> io::Result<PendingPiece> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = sync_channel(1);
        match &mut self.lock_pending().0 {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(disconnected_error()),
        };
        // Registered above before it is sent: the reply may come before this thread goes on.
        let request = PieceRequest { id, digest, start, length }.to_bytes();
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.write_all(&request)?;
        requests.flush()?;
        Ok(PendingPiece { answer, length })
    }

    fn lock_pending(&self) -> MutexGuard<'_, PendingReplies> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece that was requested.
struct PendingPiece {
    answer: Receiver<PieceReply>,
    length: u32,
}

impl PendingPiece {
    fn wait_for_bytes(self) -> io::Result<Vec<u8>> {
        let bytes =
            self.answer.recv().map_err(|_| disconnected_error())?.map_err(io::Error::other)?;
        if bytes.len() != self.length as usize {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the other side sent a piece of another length than was asked for",
            ));
        }
        Ok(bytes)
    }
}

fn disconnected_error() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the connection to the gantry command that started this pod ended",
    )
}

impl Source for ExecSource {
    /// None: the order says what to write, so nobody asks a pod's source for its roots.
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(Vec::new())
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.sizes.get(digest).copied())
    }

    fn open_blob(&self, digest: &Digest, range: Range<u64>) -> Result<SourceReader> {
        let size = *self.sizes.get(digest).ok_or(Error::BlobMissing { digest: *digest })?;
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(Error::Range { digest: *digest, start, end, size });
        }
        let pieces = ExecBlobReader {
            streams: Arc::clone(&self.streams),
            digest: *digest,
            next: start,
            end,
            pending: VecDeque::with_capacity(WINDOW),
            current: io::Cursor::new(Vec::new()),
        };
        Ok(SourceReader::new(pieces, end - start))
    }
}

/// Reads one range of a blob, with several pieces requested ahead.
struct ExecBlobReader {
    streams: Arc<ExecStreams>,
    digest: Digest,
    next: u64,
    end: u64,
    pending: VecDeque<PendingPiece>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for ExecBlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // The window is filled again before the wait below, so that requests overlap with it.
            while self.pending.len() < WINDOW && self.next < self.end {
                let length = u32::try_from(self.end - self.next).unwrap_or(PIECE).min(PIECE);
                self.pending.push_back(self.streams.request_piece(
                    self.digest,
                    self.next,
                    length,
                )?);
                self.next += u64::from(length);
            }
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.pending.pop_front() {
                Some(piece) => self.current = io::Cursor::new(piece.wait_for_bytes()?),
                None => return Ok(0),
            }
        }
    }
}
