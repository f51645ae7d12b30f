//! In the seeder pod: reads the order, does it, and reports what happens. Only `gantry models receive`
//! calls this.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::Source;
use store::confined::ConfinedFolder;
use store::progress::Progress;
use tokio::runtime::Handle;

use super::exec_source::ExecSource;
use super::frame;
use super::mount_source::require_node_folder;
use super::order::{MOUNT, SeederEvent, SeederFailureKind, SeederOrder, SeederTask};
use super::registry::{FallbackSource, RegistryBlobSource};
use crate::models::{self, ModelRecord};

/// How often progress is reported: often enough for a progress bar, and few events.
const INTERVAL: Duration = Duration::from_millis(250);

/// The folders of the pod and its runtime.
pub struct PodEnvironment {
    /// Where the volume is mounted; [`MOUNT`] in a pod.
    pub mount: PathBuf,
    /// A folder that may be written to; `/tmp` in a pod.
    pub scratch: PathBuf,
    /// The runtime that downloads from a registry run on.
    pub handle: Handle,
}

impl PodEnvironment {
    /// The folders as a seeder pod has them.
    pub fn of_seeder_pod(handle: Handle) -> Self {
        Self { mount: PathBuf::from(MOUNT), scratch: PathBuf::from("/tmp"), handle }
    }
}

/// Does what the order on `input` says. Blobs are requested on `output`, progress and results are
/// written to `events`. `on_end` is called when the other side closes the streams. Returns whether
/// the order was done; if not, an event says why.
pub fn execute_order(
    place: &PodEnvironment,
    mut input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
    events: impl Write + Send + 'static,
    on_end: impl FnOnce() + Send + 'static,
) -> bool {
    let teller = Arc::new(EventWriter::new(events));
    let failed = |fault, message: String| {
        teller.write_event(&SeederEvent::Failed { fault, message });
        false
    };
    let order = frame::send_hello(&mut output).and_then(|()| frame::read_order(&mut input));
    let order = match order.map_err(|error| error.to_string()).and_then(|json| {
        let order: SeederOrder =
            serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        order.check_paths().map(|()| order)
    }) {
        Ok(order) => order,
        Err(reason) => {
            return failed(
                SeederFailureKind::Input,
                format!(
                    "the order cannot be read: {reason}; run the same command again, and report it if it stays"
                ),
            );
        }
    };
    if let Some(folder) = &order.node_folder
        && let Err(reason) = require_node_folder(&place.mount, folder)
    {
        return failed(SeederFailureKind::Input, reason);
    }
    // One push at a time in one pod: a second one gets `Busy`, and the process that started it waits.
    // The kernel releases the lock when this process ends, however it ends.
    let lock = match File::create(place.scratch.join("seeder.lock")) {
        Ok(lock) => lock,
        Err(error) => {
            return failed(
                SeederFailureKind::Failed,
                format!("cannot make a lock file in /tmp: {error}"),
            );
        }
    };
    if matches!(order.task, SeederTask::Put { .. }) && lock.try_lock().is_err() {
        teller.write_event(&SeederEvent::Busy);
        return false;
    }
    teller.write_event(&SeederEvent::Began);
    let done = perform_task(place, order, input, output, on_end, &teller);
    teller.flush();
    match done {
        Ok(event) => {
            teller.write_event(&event);
            true
        }
        Err((fault, message)) => failed(fault, message),
    }
}

/// The work itself: returns the last event, or the kind of failure and its message.
fn perform_task(
    place: &PodEnvironment,
    order: SeederOrder,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    on_end: impl FnOnce() + Send + 'static,
    teller: &Arc<EventWriter>,
) -> Result<SeederEvent, (SeederFailureKind, String)> {
    let root = match order.folder.as_str() {
        "" => place.mount.clone(),
        folder => place.mount.join(folder),
    };
    require_no_link(place, &order.folder)?;
    let words = |error: models::Error| (failure_kind_of(&error), error.to_string());
    let SeederTask::Put { plans, layout, keep, registry, over_api } = order.task else {
        require_folder(&root)?;
        if order.task == SeederTask::List {
            return ModelRecord::read_all(root.as_path())
                .map(|records| SeederEvent::Listed { records })
                .map_err(words);
        }
        let checked = models::verify_models(root.as_path(), &**teller).map_err(words)?;
        return Ok(SeederEvent::Checked { checked });
    };
    let files = plans.iter().flat_map(models::ModelPlan::files);
    let sizes: std::collections::BTreeMap<_, _> =
        files.map(|(_, content)| (content.digest, content.size)).collect();
    // The input is read also when no blob may come over it: its end means that the other side is gone,
    // and that this process has to stop.
    let asked = ExecSource::new(sizes.clone(), input, output, on_end);
    let api: Option<Box<dyn Source>> = if over_api { Some(Box::new(asked)) } else { None };
    let registry = registry
        .map(|from| RegistryBlobSource::new(&from, sizes, &place.scratch, place.handle.clone()));
    let telling = Arc::clone(teller);
    let ways =
        FallbackSource::new(registry, api, Arc::new(move |message| telling.add_note(&message)))
            .map_err(|reason| (SeederFailureKind::Failed, reason))?;
    // Files are made writable for the volume's group: OpenShift may give the next pod another user id,
    // which has to be able to resume.
    rustix::process::umask(rustix::fs::Mode::WOTH);
    let puts = models::write_models(&ways, &root, &plans, layout, &**teller).map_err(words)?;
    let collected = match keep {
        Some(keep) => models::collect_old_revisions(&root, &plans, keep).map_err(words)?,
        None => Vec::new(),
    };
    Ok(SeederEvent::Put { puts, via: ways.taken_route(), collected })
}

/// Others may write to the volume: a link where the folder should be would lead out of it.
fn require_no_link(
    place: &PodEnvironment,
    folder: &str,
) -> Result<(), (SeederFailureKind, String)> {
    match ConfinedFolder::new(&place.mount).read_metadata(folder) {
        Err(error) if store::confined::is_refused_link(&error) => {
            Err((SeederFailureKind::Input, error.to_string()))
        }
        _ => Ok(()),
    }
}

/// A claim may name a folder in the volume; listing and verifying do not make it.
fn require_folder(root: &Path) -> Result<(), (SeederFailureKind, String)> {
    if fs::metadata(root).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    let folder = root.strip_prefix(MOUNT).unwrap_or(root);
    Err((
        SeederFailureKind::Input,
        format!("the volume has no folder {}; nothing was loaded there yet", folder.display()),
    ))
}

fn failure_kind_of(error: &models::Error) -> SeederFailureKind {
    match error {
        error if error.is_integrity() => SeederFailureKind::Integrity,
        models::Error::InTheWay { .. } => SeederFailureKind::Input,
        _ => SeederFailureKind::Failed,
    }
}

/// Writes events; progress is collected and written in intervals.
struct EventWriter {
    events: Mutex<Box<dyn Write + Send>>,
    pending: Mutex<UnreportedProgress>,
}

/// Progress that was not written yet.
struct UnreportedProgress {
    moved: u64,
    skipped: u64,
    written: Instant,
}

impl EventWriter {
    fn new(events: impl Write + Send + 'static) -> Self {
        let pending = UnreportedProgress { moved: 0, skipped: 0, written: Instant::now() };
        Self { events: Mutex::new(Box::new(events)), pending: Mutex::new(pending) }
    }

    fn write_event(&self, event: &SeederEvent) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // A failed write means that nobody reads any more; the end of the input stops the work then.
        let _ = events.write_all(&line).and_then(|()| events.flush());
    }

    fn count_bytes(&self, moved: u64, skipped: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.moved += moved;
        pending.skipped += skipped;
        if pending.written.elapsed() >= INTERVAL {
            self.write_progress(&mut pending);
        }
    }

    fn write_progress(&self, pending: &mut UnreportedProgress) {
        if pending.moved > 0 || pending.skipped > 0 {
            self.write_event(&SeederEvent::Progress {
                moved: pending.moved,
                skipped: pending.skipped,
            });
        }
        *pending = UnreportedProgress { moved: 0, skipped: 0, written: Instant::now() };
    }

    fn flush(&self) {
        self.write_progress(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for EventWriter {
    fn expect_bytes(&self, bytes: u64) {
        self.write_event(&SeederEvent::Expect { bytes });
    }

    fn advance_bytes(&self, bytes: u64) {
        self.count_bytes(bytes, 0);
    }

    fn skip_bytes(&self, bytes: u64) {
        self.count_bytes(0, bytes);
    }

    fn finish_item(&self, name: &str) {
        self.write_event(&SeederEvent::Done { name: name.to_owned() });
    }

    fn add_note(&self, message: &str) {
        self.write_event(&SeederEvent::Note { message: message.to_owned() });
    }
}
