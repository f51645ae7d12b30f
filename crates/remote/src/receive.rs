//! Content whose sha256 nobody knows yet: it comes into the store while it is hashed. Used when a
//! lock is made; what is locked comes by [`crate::fetch`].

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use net::{Client, Request};
use store::Store;
use store::hash::GitBlob;
use store::progress::Progress;
use tokio::sync::mpsc;
use types::GitId;
use types::lock::Blob;

use crate::{Error, Result};

/// Chunks between the socket and the disk's thread; see [`crate::fetch`].
const QUEUE: usize = 8;

/// What came.
pub(crate) struct Received {
    pub(crate) blob: Blob,
    /// Git's id, where the length was known before.
    pub(crate) git: Option<GitId>,
}

/// Takes the whole answer into the store. `what` is what errors call it.
pub(crate) async fn receive(
    client: &Client,
    what: &str,
    request: Request,
    size: Option<u64>,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<Received> {
    let _place = client.place().await;
    let (sender, queue) = mpsc::channel(QUEUE);
    let (store, watched) = (store.clone(), Arc::clone(progress));
    let written = tokio::task::spawn_blocking(move || {
        let git = size.map(GitBlob::new);
        let mut reader = Incoming { queue, current: Bytes::new(), ended: false, git, watched };
        let (digest, size) = store.add_reader(&mut reader)?;
        let git = reader.git.map(GitBlob::finish).transpose()?;
        Ok::<_, Error>(Received { blob: Blob { digest, size }, git })
    });
    let mut download = client.download(request, 0, size);
    let received = loop {
        match download.chunk().await {
            Ok(Some(chunk)) => {
                if sender.send(Message::Bytes(chunk)).await.is_err() {
                    // The writer hung up: its own error says why.
                    break Ok(());
                }
            }
            Ok(None) => {
                let _ = sender.send(Message::End).await;
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
    received.and(written)
}

enum Message {
    Bytes(Bytes),
    /// Everything came; a queue that closes without it was given up.
    End,
}

struct Incoming {
    queue: mpsc::Receiver<Message>,
    current: Bytes,
    ended: bool,
    git: Option<GitBlob>,
    watched: Arc<dyn Progress>,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(Message::Bytes(chunk)) => {
                    if let Some(git) = &mut self.git {
                        git.update(&chunk);
                    }
                    self.watched.advance(chunk.len() as u64);
                    self.current = chunk;
                }
                Some(Message::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
