//! A server as a child process: its output in a file, ready when it says so, gone on drop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server starts in under a second, a pod in a few. This only ends a test that would wait forever, and
/// has to be enough for a machine with ten times the work that it can do.
const START_DEADLINE: Duration = Duration::from_mins(3);
/// How often the log is looked at while a server starts.
const POLL: Duration = Duration::from_millis(5);

/// A running server; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts a command with both its outputs in the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::create(log).expect("a log file can be made");
        let copy = file.try_clone().expect("a file can be opened twice");
        let child =
            command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn().unwrap_or_else(
                |error| panic!("cannot start {command:?}: {error} (run dev/setup)"),
            );
        Self { child, log: log.to_path_buf() }
    }

    /// Waits for `marker` in the output and gives what follows it up to a space, quote or comma:
    /// an address, mostly.
    ///
    /// # Panics
    /// When the process ends or stays silent, with its output.
    pub(crate) fn wait_for_word_after(&mut self, marker: &str) -> String {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let log = self.output();
            if let Some((_, rest)) = log.split_once(marker) {
                // The word is whole once its end is there.
                if let Some(end) = rest.find([' ', '"', ',', '\n']) {
                    return rest[..end].to_owned();
                }
            }
            let ended = self.child.try_wait().expect("a child can be asked for its state");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the server did not start ({ended:?}); its output:\n{log}"
            );
            thread::sleep(POLL);
        }
    }

    /// All that the process has printed.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("(its log cannot be read: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The process's number, for signals.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, now; nothing is asked and nothing cleaned up. Returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits for its end and gives its exit code; `None` when a signal ended it.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("a child can be waited for").code()
    }

    /// Whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Waits for a condition.
///
/// # Panics
/// When it has not come true in the time that a server has to start.
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_DEADLINE;
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(POLL);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
