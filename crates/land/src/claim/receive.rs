//! In the seeder pod: reads the order, does it, and reports what happens. Only `gantry models receive`
//! calls this.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::Source;
use store::progress::Progress;
use tokio::runtime::Handle;

use super::asked::Asked;
use super::frame;
use super::order::{Event, Fault, MOUNT, Order, Task};
use super::registry::{Pulled, Ways};
use crate::models::{self, Record};

/// How often progress is reported: often enough for a progress bar, and few events.
const INTERVAL: Duration = Duration::from_millis(250);

/// The folders of the pod and its runtime.
pub struct Place {
    /// Where the volume is mounted; [`MOUNT`] in a pod.
    pub mount: PathBuf,
    /// A folder that may be written to; `/tmp` in a pod.
    pub scratch: PathBuf,
    /// The runtime that downloads from a registry run on.
    pub handle: Handle,
}

impl Place {
    /// The folders as a seeder pod has them.
    pub fn in_pod(handle: Handle) -> Self {
        Self { mount: PathBuf::from(MOUNT), scratch: PathBuf::from("/tmp"), handle }
    }
}

/// Does what the order on `input` says. Blobs are requested on `output`, progress and results are
/// written to `events`. `on_end` is called when the other side closes the streams. Returns whether
/// the order was done; if not, an event says why.
pub fn receive(
    place: &Place,
    mut input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
    events: impl Write + Send + 'static,
    on_end: impl FnOnce() + Send + 'static,
) -> bool {
    let teller = Arc::new(Teller::new(events));
    let failed = |fault, message: String| {
        teller.tell(&Event::Failed { fault, message });
        false
    };
    let order = frame::hello(&mut output).and_then(|()| frame::read_order(&mut input));
    let order = match order.map_err(|error| error.to_string()).and_then(|json| {
        let order: Order = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        order.check().map(|()| order)
    }) {
        Ok(order) => order,
        Err(reason) => {
            return failed(
                Fault::Input,
                format!(
                    "the order cannot be read: {reason}; run the same command again, and report it if it stays"
                ),
            );
        }
    };
    // One push at a time in one pod: a second one gets `Busy`, and the process that started it waits.
    // The kernel releases the lock when this process ends, however it ends.
    let lock = match File::create(place.scratch.join("seeder.lock")) {
        Ok(lock) => lock,
        Err(error) => {
            return failed(Fault::Failed, format!("cannot make a lock file in /tmp: {error}"));
        }
    };
    if matches!(order.task, Task::Put { .. }) && lock.try_lock().is_err() {
        teller.tell(&Event::Busy);
        return false;
    }
    teller.tell(&Event::Began);
    let done = run(place, order, input, output, on_end, &teller);
    teller.flush();
    match done {
        Ok(event) => {
            teller.tell(&event);
            true
        }
        Err((fault, message)) => failed(fault, message),
    }
}

/// The work itself: returns the last event, or the kind of failure and its message.
fn run(
    place: &Place,
    order: Order,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    on_end: impl FnOnce() + Send + 'static,
    teller: &Arc<Teller>,
) -> Result<Event, (Fault, String)> {
    let root = match order.folder.as_str() {
        "" => place.mount.clone(),
        folder => place.mount.join(folder),
    };
    let words = |error: models::Error| (fault(&error), error.to_string());
    let Task::Put { plans, layout, keep, registry, over_api } = order.task else {
        need_folder(&root)?;
        if order.task == Task::List {
            return Record::read_all(root.as_path())
                .map(|records| Event::Listed { records })
                .map_err(words);
        }
        let checked = models::verify(root.as_path(), &**teller).map_err(words)?;
        return Ok(Event::Checked { checked });
    };
    let files = plans.iter().flat_map(models::Plan::files);
    let sizes: std::collections::BTreeMap<_, _> =
        files.map(|(_, content)| (content.digest, content.size)).collect();
    // The input is read also when no blob may come over it: its end means that the other side is gone,
    // and that this process has to stop.
    let asked = Asked::new(sizes.clone(), input, output, on_end);
    let api: Option<Box<dyn Source>> = if over_api { Some(Box::new(asked)) } else { None };
    let registry =
        registry.map(|from| Pulled::new(&from, sizes, &place.scratch, place.handle.clone()));
    let telling = Arc::clone(teller);
    let ways = Ways::new(registry, api, Arc::new(move |message| telling.note(&message)))
        .map_err(|reason| (Fault::Failed, reason))?;
    // Files are made writable for the volume's group: OpenShift may give the next pod another user id,
    // which has to be able to resume.
    rustix::process::umask(rustix::fs::Mode::WOTH);
    let puts = models::write(&ways, &root, &plans, layout, &**teller).map_err(words)?;
    let collected = match keep {
        Some(keep) => models::collect(&root, &plans, keep).map_err(words)?,
        None => Vec::new(),
    };
    Ok(Event::Put { puts, via: ways.taken(), collected })
}

/// A claim may name a folder in the volume; listing and verifying do not make it.
fn need_folder(root: &Path) -> Result<(), (Fault, String)> {
    if fs::metadata(root).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    let folder = root.strip_prefix(MOUNT).unwrap_or(root);
    Err((
        Fault::Input,
        format!("the volume has no folder {}; nothing was loaded there yet", folder.display()),
    ))
}

fn fault(error: &models::Error) -> Fault {
    match error {
        error if error.is_integrity() => Fault::Integrity,
        models::Error::InTheWay { .. } => Fault::Input,
        _ => Fault::Failed,
    }
}

/// Writes events; progress is collected and written in intervals.
struct Teller {
    events: Mutex<Box<dyn Write + Send>>,
    pending: Mutex<Pending>,
}

/// Progress that was not written yet.
struct Pending {
    moved: u64,
    skipped: u64,
    told: Instant,
}

impl Teller {
    fn new(events: impl Write + Send + 'static) -> Self {
        let pending = Pending { moved: 0, skipped: 0, told: Instant::now() };
        Self { events: Mutex::new(Box::new(events)), pending: Mutex::new(pending) }
    }

    fn tell(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // A failed write means that nobody reads any more; the end of the input stops the work then.
        let _ = events.write_all(&line).and_then(|()| events.flush());
    }

    fn count(&self, moved: u64, skipped: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.moved += moved;
        pending.skipped += skipped;
        if pending.told.elapsed() >= INTERVAL {
            self.send(&mut pending);
        }
    }

    fn send(&self, pending: &mut Pending) {
        if pending.moved > 0 || pending.skipped > 0 {
            self.tell(&Event::Progress { moved: pending.moved, skipped: pending.skipped });
        }
        *pending = Pending { moved: 0, skipped: 0, told: Instant::now() };
    }

    fn flush(&self) {
        self.send(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for Teller {
    fn expect(&self, bytes: u64) {
        self.tell(&Event::Expect { bytes });
    }

    fn advance(&self, bytes: u64) {
        self.count(bytes, 0);
    }

    fn skip(&self, bytes: u64) {
        self.count(0, bytes);
    }

    fn done(&self, name: &str) {
        self.tell(&Event::Done { name: name.to_owned() });
    }

    fn note(&self, message: &str) {
        self.tell(&Event::Note { message: message.to_owned() });
    }
}
