//! The helm process: its environment, what is read of it, and its end. Everything that it says is
//! bounded, and it ends when its time is up or when it is told to stop.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How much garbage Go lets gather in helm (`GOGC`), in percent of what is in use: helm lives for a tenth of a second
/// and spends a quarter of it on collecting. Two renders of onyx side by side took 92 ms instead of
/// 129 ms, kube-prometheus-stack 152 MB instead of 127 MB.
pub const GARBAGE: &str = "400";
/// Largest render; that of kube-prometheus-stack, the largest of the known ones, has 6 MB.
pub(super) const MAX_RENDER: u64 = 256 << 20;
/// What helm says on failure is shown to a person.
const MAX_MESSAGE: u64 = 1 << 20;
/// Large umbrellas render in 20 s on a slow machine.
pub(super) const DEADLINE: Duration = Duration::from_mins(5);
/// How long helm may take to write down that it was stopped, before it is killed.
const GRACE: Duration = Duration::from_secs(15);
/// How often the clock and the wish to stop are looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// Tells a helm that runs to stop. Helm writes down that its work was not done, so that the next run
/// knows; clones mean the same helm.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops it.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What helm left.
pub(super) struct Output {
    pub(super) success: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// helm with nothing of this user's around it: no plugins, no repositories, no cluster, no proxy.
pub(super) fn alone(path: &Path, home: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.env("HOME", home).env("TMPDIR", home).env("KUBECONFIG", home.join("none"));
    with_home(&mut command, home);
    command
}

/// helm as the user runs it, but for its own settings: the programs that a kubeconfig names for
/// credentials need the user's environment.
pub(super) fn as_user(path: &Path, home: &Path) -> Command {
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("HELM_") {
            command.env_remove(variable);
        }
    }
    with_home(&mut command, home);
    command
}

fn with_home(command: &mut Command, home: &Path) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("GOGC", GARBAGE);
    for (variable, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(folder));
    }
}

/// Runs a program to its end, and reads what it says up to a bound. Blocks; the thread that calls is
/// the program's parent until it is done.
pub(super) fn run(mut command: Command, most: Duration, stop: &Stop) -> Result<Output, String> {
    let mut child = command.spawn().map_err(|error| format!("it cannot be run: {error}"))?;
    let (sender, done) = mpsc::channel();
    let stdout = child.stdout.take().map(|pipe| read(pipe, MAX_RENDER, sender.clone()));
    let stderr = child.stderr.take().map(|pipe| read(pipe, MAX_MESSAGE, sender));
    wait(&mut child, &done, most, stop)?;
    let status = child.wait().map_err(|error| format!("it was lost: {error}"))?;
    let text = |pipe: Option<thread::JoinHandle<Vec<u8>>>| {
        pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if stdout.len() as u64 > MAX_RENDER {
        return Err(format!("its output has more than {MAX_RENDER} bytes"));
    }
    Ok(Output {
        success: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Waits until both pipes are closed.
fn wait(
    child: &mut Child,
    done: &mpsc::Receiver<()>,
    most: Duration,
    stop: &Stop,
) -> Result<(), String> {
    let started = Instant::now();
    let mut stopped: Option<Instant> = None;
    let mut open = 2;
    while open > 0 {
        if done.recv_timeout(PERIOD).is_ok() {
            open -= 1;
            continue;
        }
        if stopped.is_none() && stop.is_wanted() {
            stopped = Some(Instant::now());
            terminate(child);
        }
        if started.elapsed() > most || stopped.is_some_and(|at| at.elapsed() > GRACE) {
            // Already gone is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it was not done after {} s", started.elapsed().as_secs()));
        }
    }
    Ok(())
}

fn terminate(child: &Child) {
    let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // One that is gone needs no signal.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

fn read(
    mut pipe: impl Read + Send + 'static,
    most: u64,
    done: mpsc::Sender<()>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends with the program, whose status tells more.
        let _ = pipe.by_ref().take(most + 1).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let _ = done.send(());
        bytes
    })
}
