//! One session with a seeder pod: executes `gantry models receive` in it, sends the order, answers its
//! requests for blobs, and turns its events into progress here, until the order is done or the
//! connection breaks.

use std::sync::Arc;
use std::time::Duration;

use cluster::objects::api::core::v1::Pod;
use cluster::{Cluster, ObjectScope};
use net::BandwidthLimit;
use store::Source;
use store::progress::Progress;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

use super::error::{Error, Result};
use super::frame;
use super::order::{MOUNT, SeederEvent, SeederFailureKind, SeederOrder};
use super::piece_server;
use super::pod::CONTAINER;

/// The command that is executed in the pod.
const COMMAND: [&str; 3] = ["/usr/bin/gantry", "models", "receive"];
/// The longest line that is read from a pod: enough for the records of a volume with a hundred
/// thousand files.
const LONGEST_LINE: u64 = 64 << 20;
/// Bytes of the pod's output that are no events and are kept for the error message.
const MOST_WORDS: usize = 2048;
/// After so long a silence the API server is asked whether the pod still runs: when a node is lost,
/// nobody closes the connection.
const SILENCE: Duration = Duration::from_secs(30);

/// A pod, and what messages call it.
pub(super) struct PodSession<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    /// What errors call the target: `pvc://rag/models`.
    pub(super) what: &'a str,
    /// What errors call the volume that the pod has at [`MOUNT`].
    pub(super) mount: &'a str,
    /// The limit that all sessions share.
    pub(super) bandwidth: Option<BandwidthLimit>,
}

/// How a session ended.
pub(super) enum SessionEnd {
    /// The order is done; its last event.
    Finished(SeederEvent),
    /// Another push uses the pod.
    Busy,
    /// The pod ended or the connection broke, and why. A new session resumes.
    Broken(String),
}

impl PodSession<'_> {
    /// Runs the session until the order is done or the connection ends. `began` is called when the pod
    /// has accepted the order. An error is one that a new session would meet again.
    pub(super) async fn run(
        &self,
        order: &SeederOrder,
        source: Option<Arc<dyn Source>>,
        tally: &mut SessionProgress,
        began: impl Fn(),
    ) -> Result<SessionEnd> {
        let exec = self.cluster.start_program(self.namespace, self.pod, CONTAINER, &COMMAND).await;
        let mut exec = match exec {
            Ok(exec) => exec,
            Err(error @ cluster::Error::Forbidden { .. }) => return Err(error.into()),
            Err(error) => return Ok(SessionEnd::Broken(error.to_string())),
        };
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
            (exec.stdin(), exec.stdout(), exec.stderr())
        else {
            return Ok(SessionEnd::Broken(
                "the API server opened no streams to the pod".to_owned(),
            ));
        };
        let json = serde_json::to_vec(order).map_err(std::io::Error::other);
        let bytes = json.and_then(|json| frame::encode_order(&json));
        let bytes = bytes.map_err(|error| {
            Error::invalid_input(
                self.what,
                error.to_string(),
                "push fewer models at once, with --model",
            )
        })?;
        let allowed = order.digests();
        let conversation = async {
            piece_server::expect_hello(&mut stdout).await?;
            stdin.write_all(&bytes).await?;
            match source {
                Some(source) => {
                    let bandwidth = self.bandwidth.clone();
                    piece_server::answer_requests(source, allowed, bandwidth, stdout, stdin).await
                }
                // The pod has nothing to ask for, but it takes the end of its input as the sign to stop:
                // this future keeps the input open until the pod closes its output.
                None => tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await.map(drop),
            }
        };
        tally.begin_session();
        let listening = self.read_events(BufReader::new(stderr), tally, began);
        tokio::pin!(conversation);
        tokio::pin!(listening);
        // The events decide. The other future ends first when the pod closes its output, or when the
        // stream is not ours; what it returned is then needed to tell why there are no events.
        let mut spoken = None;
        let heard = loop {
            tokio::select! {
                outcome = &mut conversation, if spoken.is_none() => spoken = Some(outcome),
                heard = &mut listening => break heard,
            }
        };
        self.conclude_session(heard, spoken)
    }

    /// Tells from the last event, and from what else was seen, how the session ended.
    fn conclude_session(
        &self,
        heard: PodOutput,
        spoken: Option<std::io::Result<()>>,
    ) -> Result<SessionEnd> {
        match heard.last {
            Some(SeederEvent::Busy) => return Ok(SessionEnd::Busy),
            Some(SeederEvent::Failed { fault, message }) => {
                let what = self.what.to_owned();
                let message = message.replace(MOUNT, self.mount);
                return Err(Error::Work { what, fault, message });
            }
            Some(event) => return Ok(SessionEnd::Finished(event)),
            None => {}
        }
        // Without any event: either it is no Gantry (a wrong image), or the connection broke before.
        let is_foreign = matches!(&spoken, Some(Err(error))
            if error.kind() == std::io::ErrorKind::InvalidData);
        if is_foreign || !heard.other_text.is_empty() && !heard.has_begun {
            let words = if heard.other_text.is_empty() {
                "it is not the Gantry of this version"
            } else {
                &heard.other_text
            };
            return Err(Error::Work {
                what: self.what.to_owned(),
                fault: SeederFailureKind::Input,
                message: format!(
                    "Pod {}/{} does not understand the order ({}); check that its image is the one that this version of Gantry brought (tools: [gantry])",
                    self.namespace,
                    self.pod,
                    words.trim()
                ),
            });
        }
        let why =
            heard.connection_error.unwrap_or_else(|| "the connection to the pod ended".to_owned());
        let words = heard.other_text.trim();
        Ok(SessionEnd::Broken(if words.is_empty() { why } else { format!("{why} ({words})") }))
    }

    /// Reads events until the last one of the order, or the end of the stream.
    async fn read_events(
        &self,
        mut lines: impl AsyncBufRead + Unpin,
        tally: &mut SessionProgress,
        began: impl Fn(),
    ) -> PodOutput {
        let mut heard = PodOutput::default();
        let mut line = Vec::new();
        loop {
            let mut bounded = (&mut lines).take(LONGEST_LINE - line.len() as u64);
            let read = bounded.read_until(b'\n', &mut line);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(0)) => return heard,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return heard.with_connection_error(error.to_string()),
                // A timeout in the midst of a line loses nothing: `line` keeps what was read, and the next
                // round reads on behind it.
                Err(_) => match self.find_pod_failure().await {
                    Some(why) => return heard.with_connection_error(why),
                    None => continue,
                },
            }
            if !line.ends_with(b"\n") && line.len() as u64 >= LONGEST_LINE {
                return heard
                    .with_connection_error("the pod sent a line of more than 64 MiB".to_owned());
            }
            match serde_json::from_slice::<SeederEvent>(&line) {
                Ok(SeederEvent::Began) => {
                    heard.has_begun = true;
                    began();
                }
                Ok(event) => {
                    if let Some(last) = tally.apply_event(event) {
                        heard.last = Some(last);
                        return heard;
                    }
                }
                // No event: a message of the runtime (command not found) that belongs into the error.
                Err(_) if heard.other_text.len() < MOST_WORDS => {
                    heard.other_text.push_str(&String::from_utf8_lossy(&line));
                }
                Err(_) => {}
            }
            line.clear();
        }
    }

    /// Why the pod does not run any more; `None` while it runs.
    async fn find_pod_failure(&self) -> Option<String> {
        let pod =
            self.cluster.get_object::<Pod>(ObjectScope::Namespace(self.namespace), self.pod).await;
        match pod {
            Ok(Some(pod)) => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                let reason = cluster::explain_pod(&pod);
                match (phase, reason) {
                    (Some("Running"), None) => None,
                    (_, Some(reason)) => Some(reason.why),
                    (phase, None) => Some(format!("the pod is {}", phase.unwrap_or("unknown"))),
                }
            }
            Ok(None) => Some("the pod was deleted".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// What a pod wrote to its standard error during a session.
#[derive(Default)]
struct PodOutput {
    /// Whether the pod accepted the order.
    has_begun: bool,
    /// The event that ended the order.
    last: Option<SeederEvent>,
    /// Output that is no event.
    other_text: String,
    /// Why the stream ended before the last event.
    connection_error: Option<String>,
}

impl PodOutput {
    fn with_connection_error(mut self, why: String) -> Self {
        self.connection_error = Some(why);
        self
    }
}

/// Progress over several sessions with the same order. A new session counts from zero, and reports as
/// skipped what an earlier one moved; only what goes beyond that is passed on to the user.
pub(super) struct SessionProgress {
    progress: Arc<dyn Progress>,
    /// Bytes that the user was told of, over all sessions.
    reported: u64,
    /// Bytes that the current session has reported.
    in_session: u64,
    is_expected: bool,
    sessions: u32,
}

impl SessionProgress {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, reported: 0, in_session: 0, is_expected: false, sessions: 0 }
    }

    /// Bytes that are done, over all sessions.
    pub(super) fn reported_bytes(&self) -> u64 {
        self.reported
    }

    /// A new session begins: it counts from zero again.
    fn begin_session(&mut self) {
        self.in_session = 0;
        self.is_expected = false;
        self.sessions += 1;
    }

    /// Turns an event into progress; returns it when it is the last of the order.
    fn apply_event(&mut self, event: SeederEvent) -> Option<SeederEvent> {
        match event {
            SeederEvent::Expect { bytes } => {
                // Later sessions announce the same files again.
                if self.sessions <= 1 || (self.reported == 0 && !self.is_expected) {
                    self.progress.expect_bytes(bytes);
                }
                self.is_expected = true;
            }
            SeederEvent::Progress { moved, skipped } => {
                self.in_session += moved + skipped;
                // Example: 70 bytes were told before a break; the new session skips 70 and moves 5. Of its
                // 75, the 5 above the 70 are new, and pass as moved.
                let new = self.in_session.saturating_sub(self.reported);
                let (moved, skipped) = (moved.min(new), new.saturating_sub(moved).min(skipped));
                if moved > 0 {
                    self.progress.advance_bytes(moved);
                }
                if skipped > 0 {
                    self.progress.skip_bytes(skipped);
                }
                self.reported += moved + skipped;
            }
            SeederEvent::Done { name } => self.progress.finish_item(&name),
            SeederEvent::Note { message } => self.progress.add_note(&message),
            SeederEvent::Began => {}
            last => return Some(last),
        }
        None
    }
}
