//! Downloads content whose sha256 is not known yet: it is hashed while it is written to the store.
//! `gantry lock` uses it for small files of the Hub and for URLs without a checksum; what a lock
//! lists is downloaded by [`crate::fetch_blobs`].

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use net::{Client, HttpRequest};
use store::Store;
use store::hash::GitBlobHasher;
use store::progress::Progress;
use tokio::sync::mpsc;
use types::GitId;
use types::lock::Blob;

use crate::{Error, Result};

/// Chunks that wait between the socket and the thread that writes; see [`crate::fetch_blobs`].
const QUEUE: usize = 8;

/// Content that is in the store now.
pub(crate) struct ReceivedBlob {
    pub(crate) blob: Blob,
    /// Git's blob id. It begins with the length, so it can be computed in one pass only where the
    /// length was known before.
    pub(crate) git: Option<GitId>,
}

/// Writes the whole response to the store. `what` is its name in errors; `size` its length, where
/// that is known.
pub(crate) async fn receive_blob(
    client: &Client,
    what: &str,
    request: HttpRequest,
    size: Option<u64>,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<ReceivedBlob> {
    // Counts as one of the client's concurrent transfers, like those of a fetch.
    let _place = client.acquire_permit().await;
    let (sender, queue) = mpsc::channel(QUEUE);
    let (store, watched) = (store.clone(), Arc::clone(progress));
    let written = tokio::task::spawn_blocking(move || {
        // Git hashes a header with the length before the content, so the length must be known.
        let git = size.map(GitBlobHasher::new);
        let mut reader = ChannelReader { queue, current: Bytes::new(), ended: false, git, watched };
        let (digest, size) = store.add_reader(&mut reader)?;
        let git = reader.git.map(GitBlobHasher::finish).transpose()?;
        Ok::<_, Error>(ReceivedBlob { blob: Blob { digest, size }, git })
    });
    let mut download = client.download(request, 0, size);
    let received = loop {
        match download.next_chunk().await {
            Ok(Some(chunk)) => {
                if sender.send(ReceiveMessage::Bytes(chunk)).await.is_err() {
                    // The writer ended early: its own error, read below, says why.
                    break Ok(());
                }
            }
            Ok(None) => {
                let _ = sender.send(ReceiveMessage::End).await;
                break Ok(());
            }
            Err(cause) => break Err(Error::Net { what: what.to_owned(), cause }),
        }
    };
    drop(sender);
    let written = match written.await {
        Ok(written) => written,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::Write { what: what.to_owned(), cause: io::Error::other(error) }),
    };
    // A network error comes first: the writer then only saw an early end of its queue.
    received.and(written)
}

/// What the network task sends to the writing thread.
enum ReceiveMessage {
    Bytes(Bytes),
    /// The content is complete. A queue that closes without it means an interrupted transfer.
    End,
}

/// The queue as a [`Read`], which the store can take: hashes git's id and reports progress.
struct ChannelReader {
    queue: mpsc::Receiver<ReceiveMessage>,
    current: Bytes,
    ended: bool,
    git: Option<GitBlobHasher>,
    watched: Arc<dyn Progress>,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(ReceiveMessage::Bytes(chunk)) => {
                    if let Some(git) = &mut self.git {
                        git.update(&chunk);
                    }
                    self.watched.advance_bytes(chunk.len() as u64);
                    self.current = chunk;
                }
                Some(ReceiveMessage::End) => self.ended = true,
                // An error, not an end: else the store would keep half a file under a valid digest.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
