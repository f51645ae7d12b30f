//! The bridge from blocking readers to async bodies, of requests and of responses: files are read by
//! threads, sockets are served by async tasks, and this is the only place where the two meet.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

/// The length of one read at first: what a client costs that requests a blob and reads nothing of it.
const FIRST_CHUNK: usize = 32 << 10;
/// The length of one read once the consumer has shown that it takes data: large enough that switching
/// to a thread and back is cheap compared with the copy.
const CHUNK: usize = 256 << 10;
/// After so many bytes a consumer has taken data: more than all buffers on the way to a client hold.
const PROBATION: u64 = 4 << 20;
/// How many streams may have long reads, and read ahead, at the same time: 32 MiB of memory. All others
/// go on with short ones.
static FAST_STREAMS: Semaphore = Semaphore::const_new(64);

/// When a stream begins to read long chunks, and ahead of its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAhead {
    /// At once: for what this process itself sends, of which only a few run at a time.
    AtOnce,
    /// When the consumer has taken some megabytes: a client that reads nothing must cost little memory.
    OnceTaken,
}

/// The bytes of a reader as a stream. The reader is opened and read on tokio's blocking threads. A
/// transfer that waits for its socket holds no thread, so a thousand slow clients do not keep others
/// from the disk; and it holds little memory, so they do not fill that either.
pub fn stream_reader<R, F>(ahead: ReadAhead, open: F) -> BoxStream<'static, io::Result<Bytes>>
where
    R: Read + Send + 'static,
    F: FnOnce() -> io::Result<R> + Send + 'static,
{
    let pace = StreamPace { ahead, taken: 0, fast: None };
    let buffers = Arc::new(ChunkBuffers::default());
    stream::unfold((StreamStep::Open(open), pace), move |(step, mut pace)| {
        let buffers = Arc::clone(&buffers);
        async move {
            let length = pace.choose_length();
            let ahead = Arc::clone(&buffers);
            let reading = match step {
                StreamStep::Open(open) => {
                    tokio::task::spawn_blocking(move || read_chunk(open()?, length, &buffers))
                }
                StreamStep::Paused(reader) => {
                    tokio::task::spawn_blocking(move || read_chunk(reader, length, &buffers))
                }
                StreamStep::Reading(reading) => reading,
                StreamStep::Ended => return None,
            };
            // The task fails only if the reader panicked or the runtime shuts down.
            match reading.await.unwrap_or_else(|lost| Err(io::Error::other(lost))) {
                Ok(None) => None,
                Ok(Some((bytes, reader))) => {
                    pace.taken += bytes.len() as u64;
                    let next = if pace.fast.is_some() {
                        // Starts now, while the consumer sends the chunk that is returned below.
                        let read = move || read_chunk(reader, CHUNK, &ahead);
                        StreamStep::Reading(tokio::task::spawn_blocking(read))
                    } else {
                        StreamStep::Paused(reader)
                    };
                    Some((Ok(bytes), (next, pace)))
                }
                Err(error) => Some((Err(error), (StreamStep::Ended, pace))),
            }
        }
    })
    .boxed()
}

/// The state of a stream between two chunks.
enum StreamStep<R, F> {
    Open(F),
    /// The next chunk is read when it is asked for.
    Paused(R),
    /// The next chunk is read already.
    Reading(JoinHandle<io::Result<Option<(Bytes, R)>>>),
    Ended,
}

/// How much a stream reads at a time.
struct StreamPace {
    ahead: ReadAhead,
    /// Bytes that the consumer has taken.
    taken: u64,
    /// One of [`FAST_STREAMS`], while the stream has it.
    fast: Option<SemaphorePermit<'static>>,
}

impl StreamPace {
    fn choose_length(&mut self) -> usize {
        let is_trusted = self.ahead == ReadAhead::AtOnce || self.taken >= PROBATION;
        if self.fast.is_none() && is_trusted {
            self.fast = FAST_STREAMS.try_acquire().ok();
        }
        if self.fast.is_some() { CHUNK } else { FIRST_CHUNK }
    }
}

/// The long buffers of a stream whose chunks were sent, to be filled again: a new one would be zeroed
/// first, which costs a tenth of the processor time of sending it.
#[derive(Default)]
struct ChunkBuffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl ChunkBuffers {
    /// Enough for a chunk that is read while the one before it is sent.
    const MOST: usize = 2;

    fn take_buffer(&self) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; CHUNK])
    }

    fn put_back(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < Self::MOST {
            free.push(buffer);
        }
    }
}

/// A long chunk; its buffer goes back when the last reference to it is dropped.
struct LongChunk {
    buffer: Vec<u8>,
    length: usize,
    buffers: Arc<ChunkBuffers>,
}

impl AsRef<[u8]> for LongChunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for LongChunk {
    fn drop(&mut self) {
        self.buffers.put_back(std::mem::take(&mut self.buffer));
    }
}

/// Reads the next chunk, and returns it with the reader for the chunk after it; `None` at the end.
fn read_chunk<R: Read>(
    mut reader: R,
    length: usize,
    buffers: &Arc<ChunkBuffers>,
) -> io::Result<Option<(Bytes, R)>> {
    if length < CHUNK {
        let mut buffer = BytesMut::zeroed(length);
        let length = fill_buffer(&mut reader, &mut buffer)?;
        buffer.truncate(length);
        return Ok((length > 0).then(|| (buffer.freeze(), reader)));
    }
    let buffer = buffers.take_buffer();
    let mut chunk = LongChunk { buffer, length: 0, buffers: Arc::clone(buffers) };
    chunk.length = fill_buffer(&mut reader, &mut chunk.buffer)?;
    Ok((chunk.length > 0).then(|| (Bytes::from_owner(chunk), reader)))
}

/// Reads until the buffer is full or the reader ends; returns the number of bytes read.
pub fn fill_buffer(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_reader_comes_out_as_it_went_in() {
        let content: Vec<u8> =
            (0..PROBATION as usize + 3 * CHUNK + 17).map(|n| (n % 251) as u8).collect();
        let copy = content.clone();
        let chunks: Vec<_> =
            stream_reader(ReadAhead::OnceTaken, move || Ok(io::Cursor::new(copy))).collect().await;
        let joined: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
        assert_eq!(joined, content);
    }

    #[test]
    fn a_transfer_that_waits_holds_no_thread() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        let reader = || Ok(io::repeat(7).take(40 * CHUNK as u64));
        runtime.block_on(async {
            let mut slow = stream_reader(ReadAhead::OnceTaken, reader);
            slow.next().await.unwrap().unwrap();

            let other = stream_reader(ReadAhead::OnceTaken, reader).count().await;

            assert!(other > 40);
            assert_eq!(slow.count().await, other - 1);
        });
    }

    #[tokio::test]
    async fn an_error_of_the_reader_reaches_the_stream() {
        let chunks: Vec<_> =
            stream_reader(ReadAhead::OnceTaken, || Err::<io::Empty, _>(io::Error::other("gone")))
                .collect()
                .await;
        assert_eq!(chunks[0].as_ref().unwrap_err().to_string(), "gone");
    }
}
