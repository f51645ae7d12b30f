//! Detects stalled requests. reqwest's own read timeout also runs while a request body is being sent,
//! and would end every upload that takes longer than the timeout.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::{BandwidthLimit, RequestBody};

/// Counts the bytes of one request's body while they are sent.
#[derive(Default)]
pub(crate) struct UploadWatch {
    taken: Arc<AtomicU64>,
}

impl UploadWatch {
    /// Wraps the body so that its bytes are counted, and sent no faster than the limit.
    pub(crate) fn count_body(
        &self,
        body: BoxStream<'static, io::Result<Bytes>>,
        bandwidth: Option<BandwidthLimit>,
    ) -> BoxStream<'static, io::Result<Bytes>> {
        let taken = Arc::clone(&self.taken);
        body.inspect(move |chunk| {
            let length = chunk.as_ref().map_or(0, Bytes::len) as u64;
            taken.fetch_add(length, Ordering::Relaxed);
        })
        .then(move |chunk| {
            let bandwidth = bandwidth.clone();
            async move {
                if let (Some(limit), Ok(bytes)) = (&bandwidth, &chunk) {
                    limit.wait_for_bytes(bytes.len() as u64).await;
                }
                chunk
            }
        })
        .boxed()
    }

    /// Completes when the request is stalled before its response begins: when no byte of its body is
    /// taken for `idle`, or no answer comes for `answer`. Returns the reason.
    pub(crate) async fn wait_until_stalled(
        &self,
        body: &RequestBody,
        idle: Duration,
        answer: Duration,
    ) -> String {
        let RequestBody::Stream { length, .. } = body else {
            tokio::time::sleep(answer).await;
            return format!("no answer within {answer:?}");
        };
        // Progress is checked once per `idle`, so a stall is noticed after one to two times `idle`.
        let mut before = 0;
        loop {
            tokio::time::sleep(idle).await;
            // Bytes count when hyper takes them from the body, up to a socket buffer before they are sent.
            let now = self.taken.load(Ordering::Relaxed);
            if now >= *length {
                tokio::time::sleep(answer).await;
                return format!("no answer within {answer:?} after the whole body was sent");
            }
            if now == before {
                return format!("the server accepted no data for {idle:?} after {now} bytes");
            }
            before = now;
        }
    }
}
