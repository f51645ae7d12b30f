//! In the pod: blobs that are asked for over standard output and come over standard input. A
//! [`Source`] like any other, so that what writes a volume here is what writes a folder there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use store::{Error, Reader, Result, Source};
use types::{Digest, Root};

use super::frame::{HEAD, Head, PIECE, Request};

/// Pieces of one file that are on their way at once: 8 MiB cover what the API server, the kubelet
/// and the runtime hold in between.
const WINDOW: usize = 8;

/// The blobs of the Gantry that started this one.
pub(super) struct Asked {
    sizes: BTreeMap<Digest, u64>,
    line: Arc<Line>,
}

/// The two streams.
struct Line {
    requests: Mutex<Box<dyn Write + Send>>,
    waiting: Mutex<Waiting>,
    next: AtomicU32,
}

/// Who waits for which answer; `None` when the line is broken and nobody will get one.
struct Waiting(Option<HashMap<u32, SyncSender<Answer>>>);

/// A piece, or why there is none.
type Answer = Result<Vec<u8>, String>;

impl Asked {
    /// Blobs with these sizes over these streams. `on_end` is called when the other side hangs up.
    pub(super) fn new(
        sizes: BTreeMap<Digest, u64>,
        answers: impl Read + Send + 'static,
        requests: impl Write + Send + 'static,
        on_end: impl FnOnce() + Send + 'static,
    ) -> Self {
        let line = Arc::new(Line {
            requests: Mutex::new(Box::new(requests)),
            waiting: Mutex::new(Waiting(Some(HashMap::new()))),
            next: AtomicU32::new(0),
        });
        let reading = Arc::clone(&line);
        thread::spawn(move || {
            let _ = reading.read(answers);
            // Whoever waits finds its channel closed.
            reading.waiting().0 = None;
            on_end();
        });
        Self { sizes, line }
    }
}

impl Line {
    fn read(&self, mut answers: impl Read) -> io::Result<()> {
        let mut head = [0; HEAD];
        loop {
            answers.read_exact(&mut head)?;
            let head = Head::parse(&head)?;
            let mut bytes = vec![0; head.length as usize];
            answers.read_exact(&mut bytes)?;
            let answer = if head.is_piece {
                Ok(bytes)
            } else {
                Err(String::from_utf8_lossy(&bytes).into_owned())
            };
            let waiting = self.waiting().0.as_mut().and_then(|all| all.remove(&head.id));
            if let Some(waiting) = waiting {
                // One that was given up needs no answer.
                let _ = waiting.send(answer);
            }
        }
    }

    fn ask(&self, digest: Digest, start: u64, length: u32) -> io::Result<Piece> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = sync_channel(1);
        match &mut self.waiting().0 {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(gone()),
        };
        let request = Request { id, digest, start, length }.to_bytes();
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.write_all(&request)?;
        requests.flush()?;
        Ok(Piece { answer, length })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece that is on its way.
struct Piece {
    answer: Receiver<Answer>,
    length: u32,
}

impl Piece {
    fn wait(self) -> io::Result<Vec<u8>> {
        let bytes = self.answer.recv().map_err(|_| gone())?.map_err(io::Error::other)?;
        if bytes.len() != self.length as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer of another length"));
        }
        Ok(bytes)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the Gantry that started this one is gone")
}

impl Source for Asked {
    /// None: what is to be put was planned on the other side.
    fn roots(&self) -> Result<Vec<Root>> {
        Ok(Vec::new())
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.sizes.get(digest).copied())
    }

    fn open(&self, digest: &Digest, range: Range<u64>) -> Result<Reader> {
        let size = *self.sizes.get(digest).ok_or(Error::BlobMissing { digest: *digest })?;
        let Range { start, end } = range;
        if start > end || end > size {
            return Err(Error::Range { digest: *digest, start, end, size });
        }
        let pieces = Pieces {
            line: Arc::clone(&self.line),
            digest: *digest,
            next: start,
            end,
            coming: VecDeque::with_capacity(WINDOW),
            current: io::Cursor::new(Vec::new()),
        };
        Ok(Reader::new(pieces, end - start))
    }
}

/// The pieces of one range, several on their way.
struct Pieces {
    line: Arc<Line>,
    digest: Digest,
    next: u64,
    end: u64,
    coming: VecDeque<Piece>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            while self.coming.len() < WINDOW && self.next < self.end {
                let length = u32::try_from(self.end - self.next).unwrap_or(PIECE).min(PIECE);
                self.coming.push_back(self.line.ask(self.digest, self.next, length)?);
                self.next += u64::from(length);
            }
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.coming.pop_front() {
                Some(piece) => self.current = io::Cursor::new(piece.wait()?),
                None => return Ok(0),
            }
        }
    }
}
