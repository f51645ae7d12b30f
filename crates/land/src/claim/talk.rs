//! One session with a seeder pod: executes `gantry models receive` in it, sends the order, answers its
//! requests for blobs, and turns its events into progress here, until the order is done or the
//! connection breaks.

use std::sync::Arc;
use std::time::Duration;

use cluster::objects::api::core::v1::Pod;
use cluster::{Cluster, Scope};
use store::Source;
use store::progress::Progress;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

use super::error::{Error, Result};
use super::frame;
use super::order::{Event, Fault, MOUNT, Order};
use super::pod::CONTAINER;
use super::serve;

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
pub(super) struct Talk<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    /// What errors call the target: `pvc://rag/models`.
    pub(super) what: &'a str,
    /// What errors call the volume that the pod has at [`MOUNT`].
    pub(super) mount: &'a str,
}

/// How a session ended.
pub(super) enum Outcome {
    /// The order is done; its last event.
    Event(Event),
    /// Another push uses the pod.
    Busy,
    /// The pod ended or the connection broke, and why. A new session resumes.
    Broken(String),
}

impl Talk<'_> {
    /// Runs the session until the order is done or the connection ends. `began` is called when the pod
    /// has accepted the order. An error is one that a new session would meet again.
    pub(super) async fn run(
        &self,
        order: &Order,
        source: Option<Arc<dyn Source>>,
        tally: &mut Tally,
        began: impl Fn(),
    ) -> Result<Outcome> {
        let exec = self.cluster.exec(self.namespace, self.pod, CONTAINER, &COMMAND).await;
        let mut exec = match exec {
            Ok(exec) => exec,
            Err(error @ cluster::Error::Forbidden { .. }) => return Err(error.into()),
            Err(error) => return Ok(Outcome::Broken(error.to_string())),
        };
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
            (exec.stdin(), exec.stdout(), exec.stderr())
        else {
            return Ok(Outcome::Broken("the API server opened no streams to the pod".to_owned()));
        };
        let json = serde_json::to_vec(order).map_err(std::io::Error::other);
        let bytes = json.and_then(|json| frame::order_bytes(&json));
        let bytes = bytes.map_err(|error| {
            Error::input(self.what, error.to_string(), "push fewer models at once, with --model")
        })?;
        let allowed = order.digests();
        let conversation = async {
            serve::hello(&mut stdout).await?;
            stdin.write_all(&bytes).await?;
            match source {
                Some(source) => serve::serve(source, allowed, stdout, stdin).await,
                // The pod has nothing to ask for, but it takes the end of its input as the sign to stop:
                // this future keeps the input open until the pod closes its output.
                None => tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await.map(drop),
            }
        };
        tally.begin();
        let listening = self.listen(BufReader::new(stderr), tally, began);
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
        self.judged(heard, spoken)
    }

    /// Tells from the last event, and from what else was seen, how the session ended.
    fn judged(&self, heard: Heard, spoken: Option<std::io::Result<()>>) -> Result<Outcome> {
        match heard.last {
            Some(Event::Busy) => return Ok(Outcome::Busy),
            Some(Event::Failed { fault, message }) => {
                let what = self.what.to_owned();
                let message = message.replace(MOUNT, self.mount);
                return Err(Error::Work { what, fault, message });
            }
            Some(event) => return Ok(Outcome::Event(event)),
            None => {}
        }
        // Without any event: either it is no Gantry (a wrong image), or the connection broke before.
        let is_foreign = matches!(&spoken, Some(Err(error))
            if error.kind() == std::io::ErrorKind::InvalidData);
        if is_foreign || !heard.words.is_empty() && !heard.has_begun {
            let words = if heard.words.is_empty() {
                "it is not the Gantry of this version"
            } else {
                &heard.words
            };
            return Err(Error::Work {
                what: self.what.to_owned(),
                fault: Fault::Input,
                message: format!(
                    "Pod {}/{} does not understand the order ({}); check that its image is the one that this version of Gantry brought (tools: [gantry])",
                    self.namespace,
                    self.pod,
                    words.trim()
                ),
            });
        }
        let why = heard.lost.unwrap_or_else(|| "the connection to the pod ended".to_owned());
        let words = heard.words.trim();
        Ok(Outcome::Broken(if words.is_empty() { why } else { format!("{why} ({words})") }))
    }

    /// Reads events until the last one of the order, or the end of the stream.
    async fn listen(
        &self,
        mut lines: impl AsyncBufRead + Unpin,
        tally: &mut Tally,
        began: impl Fn(),
    ) -> Heard {
        let mut heard = Heard::default();
        let mut line = Vec::new();
        loop {
            let mut bounded = (&mut lines).take(LONGEST_LINE - line.len() as u64);
            let read = bounded.read_until(b'\n', &mut line);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(0)) => return heard,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return heard.and_lost(error.to_string()),
                // A timeout in the midst of a line loses nothing: `line` keeps what was read, and the next
                // round reads on behind it.
                Err(_) => match self.gone().await {
                    Some(why) => return heard.and_lost(why),
                    None => continue,
                },
            }
            if !line.ends_with(b"\n") && line.len() as u64 >= LONGEST_LINE {
                return heard.and_lost("the pod sent a line of more than 64 MiB".to_owned());
            }
            match serde_json::from_slice::<Event>(&line) {
                Ok(Event::Began) => {
                    heard.has_begun = true;
                    began();
                }
                Ok(event) => {
                    if let Some(last) = tally.hear(event) {
                        heard.last = Some(last);
                        return heard;
                    }
                }
                // No event: a message of the runtime (command not found) that belongs into the error.
                Err(_) if heard.words.len() < MOST_WORDS => {
                    heard.words.push_str(&String::from_utf8_lossy(&line));
                }
                Err(_) => {}
            }
            line.clear();
        }
    }

    /// Why the pod does not run any more; `None` while it runs.
    async fn gone(&self) -> Option<String> {
        let pod = self.cluster.get::<Pod>(Scope::Namespace(self.namespace), self.pod).await;
        match pod {
            Ok(Some(pod)) => {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                let reason = cluster::of_pod(&pod);
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
struct Heard {
    /// Whether the pod accepted the order.
    has_begun: bool,
    /// The event that ended the order.
    last: Option<Event>,
    /// Output that is no event.
    words: String,
    /// Why the stream ended before the last event.
    lost: Option<String>,
}

impl Heard {
    fn and_lost(mut self, why: String) -> Self {
        self.lost = Some(why);
        self
    }
}

/// Progress over several sessions with the same order. A new session counts from zero, and reports as
/// skipped what an earlier one moved; only what goes beyond that is passed on to the user.
pub(super) struct Tally {
    progress: Arc<dyn Progress>,
    /// Bytes that the user was told of, over all sessions.
    told: u64,
    /// Bytes that the current session has reported.
    now: u64,
    is_expected: bool,
    conversations: u32,
}

impl Tally {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        Self { progress, told: 0, now: 0, is_expected: false, conversations: 0 }
    }

    /// Bytes that are done, over all sessions.
    pub(super) fn done(&self) -> u64 {
        self.told
    }

    /// A new session begins: it counts from zero again.
    fn begin(&mut self) {
        self.now = 0;
        self.is_expected = false;
        self.conversations += 1;
    }

    /// Turns an event into progress; returns it when it is the last of the order.
    fn hear(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Expect { bytes } => {
                // Later sessions announce the same files again.
                if self.conversations <= 1 || (self.told == 0 && !self.is_expected) {
                    self.progress.expect(bytes);
                }
                self.is_expected = true;
            }
            Event::Progress { moved, skipped } => {
                self.now += moved + skipped;
                // Example: 70 bytes were told before a break; the new session skips 70 and moves 5. Of its
                // 75, the 5 above the 70 are new, and pass as moved.
                let new = self.now.saturating_sub(self.told);
                let (moved, skipped) = (moved.min(new), new.saturating_sub(moved).min(skipped));
                if moved > 0 {
                    self.progress.advance(moved);
                }
                if skipped > 0 {
                    self.progress.skip(skipped);
                }
                self.told += moved + skipped;
            }
            Event::Done { name } => self.progress.done(&name),
            Event::Note { message } => self.progress.note(&message),
            Event::Began => {}
            last => return Some(last),
        }
        None
    }
}
