//! The one bridge from a blocking reader to the body of a request or an answer.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

/// One read: large enough that a system call is cheap beside its copy, small enough that eight
/// transfers stay within a few megabytes.
const CHUNK: usize = 256 << 10;
/// Chunks on the way between the disk's thread and the socket.
const QUEUE: usize = 4;

/// The bytes of a reader as a stream. The reader is opened and read on a thread that may block; a
/// stream that is dropped stops it at the next chunk.
pub fn stream<R, F>(open: F) -> BoxStream<'static, io::Result<Bytes>>
where
    R: Read + 'static,
    F: FnOnce() -> io::Result<R> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        loop {
            let mut buffer = BytesMut::zeroed(CHUNK);
            match fill(&mut reader, &mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    buffer.truncate(length);
                    // Nobody listens any more: the transfer was given up.
                    if sender.blocking_send(Ok(buffer.freeze())).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
    .boxed()
}

/// Reads until the buffer is full or the reader ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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
        let content: Vec<u8> = (0..3 * CHUNK + 17).map(|n| (n % 251) as u8).collect();
        let copy = content.clone();
        let chunks: Vec<_> = stream(move || Ok(io::Cursor::new(copy))).collect().await;
        let joined: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
        assert_eq!(joined, content);
    }

    #[tokio::test]
    async fn an_error_of_the_reader_reaches_the_stream() {
        let chunks: Vec<_> =
            stream(|| Err::<io::Empty, _>(io::Error::other("gone"))).collect().await;
        assert_eq!(chunks[0].as_ref().unwrap_err().to_string(), "gone");
    }
}
