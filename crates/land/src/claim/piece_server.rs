//! On this side of the API server: sends the pieces of blobs that a seeder pod asks for, from any
//! [`Source`]. Only blobs of the order are sent, in pieces of a bounded length.
//!
//! Three parts run at the same time: one reads requests from the socket, one reads pieces from the
//! disk on a thread of its own, one writes replies to the socket.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::sync::Arc;

use net::BandwidthLimit;
use store::Source;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use types::Digest;

use super::frame::{HEAD, HELLO, LONGEST_WORDS, PIECE, PieceHeader, PieceRequest, REQUEST};

/// Requests that may wait for the disk: far more than a pod sends ahead (8 for each file).
const REQUESTS: usize = 64;
/// Replies that may wait for the socket, of up to 1 MiB each.
const ANSWERS: usize = 4;

/// Waits for the pod's first bytes. `InvalidData` means that what runs there does not speak this
/// protocol.
pub(super) async fn expect_hello(stdout: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut said = [0; HELLO.len()];
    stdout.read_exact(&mut said).await?;
    if said == *HELLO {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks another version of the protocol"))
}

/// Answers requests until the pod closes its output, no faster than the limit. Requests for blobs that are
/// not in `allowed` get an error.
pub(super) async fn answer_requests(
    source: Arc<dyn Source>,
    allowed: BTreeSet<Digest>,
    bandwidth: Option<BandwidthLimit>,
    mut stdout: impl AsyncRead + Unpin,
    mut stdin: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (requests, queue) = mpsc::channel(REQUESTS);
    let (answers, mut ready) = mpsc::channel(ANSWERS);
    let reading =
        tokio::task::spawn_blocking(move || read_pieces(&*source, &allowed, queue, &answers));
    let listen = async move {
        let mut bytes = [0; REQUEST];
        loop {
            match stdout.read_exact(&mut bytes).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            if requests.send(PieceRequest::parse(&bytes)?).await.is_err() {
                return Ok(());
            }
        }
    };
    let answer = async move {
        while let Some(bytes) = ready.recv().await {
            let bytes: Vec<u8> = bytes;
            if let Some(limit) = &bandwidth {
                limit.wait_for_bytes(bytes.len() as u64).await;
            }
            if stdin.write_all(&bytes).await.is_err() {
                // The pod ended: that is no error here, its events say why.
                break;
            }
        }
        Ok::<(), io::Error>(())
    };
    let outcome = tokio::try_join!(listen, answer).map(drop);
    // Both channels are closed now, which ends the thread after the piece that it reads.
    let _ = reading.await;
    outcome
}

/// Reads pieces, one after the other, in the order of their requests.
fn read_pieces(
    source: &dyn Source,
    allowed: &BTreeSet<Digest>,
    mut queue: mpsc::Receiver<PieceRequest>,
    answers: &mpsc::Sender<Vec<u8>>,
) {
    while let Some(request) = queue.blocking_recv() {
        let mut bytes = vec![0; HEAD];
        let piece = read_piece(source, allowed, request, &mut bytes);
        let is_piece = piece.is_ok();
        if let Err(reason) = piece {
            let end = reason.floor_char_boundary(LONGEST_WORDS);
            // What was read before the failure must not be taken for the message.
            bytes.truncate(HEAD);
            bytes.extend_from_slice(&reason.as_bytes()[..end]);
        }
        let length = u32::try_from(bytes.len() - HEAD).unwrap_or(u32::MAX);
        let head = PieceHeader { id: request.id, is_piece, length };
        bytes[..HEAD].copy_from_slice(&head.to_bytes());
        if answers.blocking_send(bytes).is_err() {
            return;
        }
    }
}

/// Reads one piece behind the header's bytes; an error is the message for the pod.
fn read_piece(
    source: &dyn Source,
    allowed: &BTreeSet<Digest>,
    request: PieceRequest,
    bytes: &mut Vec<u8>,
) -> Result<(), String> {
    if request.length > PIECE || !allowed.contains(&request.digest) {
        return Err("the pod asked for a blob that is not in its order".to_owned());
    }
    let end = request
        .start
        .checked_add(u64::from(request.length))
        .ok_or("the pod asked for a range past the largest file size")?;
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let mut reader =
        source.open_blob(&request.digest, request.start..end).map_err(|error| words(&error))?;
    reader.read_to_end(bytes).map_err(|error| words(&error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::Range;

    use store::hash::sha256;
    use store::{Result, SourceReader};
    use types::Root;

    use super::*;

    /// A source that has one blob.
    struct OneBlob(&'static [u8]);

    impl Source for OneBlob {
        fn roots(&self) -> Result<Vec<Root>> {
            Ok(vec![])
        }

        fn blob_size(&self, _: &Digest) -> Result<Option<u64>> {
            Ok(Some(self.0.len() as u64))
        }

        fn open_blob(&self, _: &Digest, range: Range<u64>) -> Result<SourceReader> {
            let piece = &self.0[range.start as usize..];
            Ok(SourceReader::new(piece, range.end - range.start))
        }
    }

    fn read(request: PieceRequest) -> std::result::Result<Vec<u8>, String> {
        let mut bytes = b"head".to_vec();
        let allowed = [sha256(b"content")].into();
        read_piece(&OneBlob(b"content"), &allowed, request, &mut bytes).map(|()| bytes)
    }

    #[tokio::test]
    async fn replies_keep_the_limit() {
        let digest = sha256(b"content");
        let (mut pod, ours) = tokio::io::duplex(1 << 10);
        let (stdout, stdin) = tokio::io::split(ours);
        // Two replies of 16 bytes at 16 bytes a second.
        let limit = Some(BandwidthLimit::new(16));
        let source = Arc::new(OneBlob(b"content"));
        let allowed = [digest].into();
        let started = std::time::Instant::now();
        let answering = tokio::spawn(answer_requests(source, allowed, limit, stdout, stdin));
        for id in 0..2 {
            let request = PieceRequest { id, digest, start: 0, length: 7 };
            pod.write_all(&request.to_bytes()).await.unwrap();
        }
        let mut replies = [0; 2 * (HEAD + 7)];
        pod.read_exact(&mut replies).await.unwrap();
        assert!(started.elapsed() >= std::time::Duration::from_millis(1900));
        assert!(replies.ends_with(b"content"));
        drop(pod);
        answering.await.unwrap().unwrap();
    }

    #[test]
    fn a_piece_stands_behind_the_room_for_its_header() {
        let request = PieceRequest { id: 1, digest: sha256(b"content"), start: 3, length: 2 };
        assert_eq!(read(request), Ok(b"headte".to_vec()));
    }

    #[test]
    fn a_pod_gets_nothing_that_is_not_in_its_order_and_no_piece_that_is_too_long() {
        let right = PieceRequest { id: 1, digest: sha256(b"content"), start: 0, length: 7 };
        for wrong in [
            PieceRequest { digest: sha256(b"secret"), ..right },
            PieceRequest { length: PIECE + 1, ..right },
            PieceRequest { start: u64::MAX, ..right },
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.starts_with("the pod asked for"), "{error}");
        }
    }

    #[test]
    fn a_reply_to_what_cannot_be_read_is_a_message_without_the_bytes_before_the_failure() {
        let digest = sha256(b"content");
        let (requests, queue) = mpsc::channel(1);
        let (answers, mut ready) = mpsc::channel(1);
        // Longer than the source has: the first seven bytes are read before it fails.
        let request = PieceRequest { id: 9, digest, start: 0, length: 100 };
        requests.blocking_send(request).unwrap();
        drop(requests);
        read_pieces(&OneBlob(b"content"), &[digest].into(), queue, &answers);
        let reply = ready.try_recv().unwrap();
        let header = PieceHeader::parse(reply[..HEAD].try_into().unwrap()).unwrap();
        assert_eq!(
            (header.id, header.is_piece, header.length as usize),
            (9, false, reply.len() - HEAD)
        );
        let message = std::str::from_utf8(&reply[HEAD..]).unwrap();
        assert!(message.contains("ends 93 bytes early"), "{message}");
    }
}
