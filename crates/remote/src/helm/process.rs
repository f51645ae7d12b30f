//! Runs helm and kustomize as child processes: their environment, output and end. The output that is kept
//! is bounded; the process is ended when its time is up or when the caller asks for it.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use types::Cause;

/// Variables of Go's runtime for helm: garbage is collected only when the heap nears a limit. helm runs
/// for a tenth of a second and spends a quarter of its processor time on collecting. Measured:
/// kube-prometheus-stack takes 0.29 instead of 0.35 CPU seconds, and 180 instead of 133 MB.
pub const GO_SETTINGS: [(&str, &str); 2] = [("GOGC", "off"), ("GOMEMLIMIT", "256MiB")];
/// Limit for a render; that of kube-prometheus-stack, the largest known one, has 6 MB.
pub(super) const MAX_RENDER: u64 = 256 << 20;
/// Limit for helm's messages on stderr.
const MAX_MESSAGE: u64 = 1 << 20;
/// Time limit for a render. Large umbrella charts take 20 s on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(5);
/// How long helm may take after SIGTERM to record that the release failed, before it is killed.
const GRACE: Duration = Duration::from_secs(15);
/// How often the time limit and the request to stop are checked.
const PERIOD: Duration = Duration::from_millis(50);

/// A request to stop a running helm. Helm then records that its work was not done, so that the next
/// run knows. Clones refer to the same request, so that another thread can make it.
#[derive(Debug, Clone, Default)]
pub struct HelmStop(Arc<AtomicBool>);

impl HelmStop {
    /// Asks helm to stop. Returns at once.
    pub fn request_stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The result of a program.
pub(crate) struct ProgramOutput {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command of helm or kustomize that is isolated from the user's configuration: no plugins, no repositories, no
/// cluster, no proxy. `home` is its home folder.
pub(crate) fn isolated_command(path: &Path, home: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.env("HOME", home).env("TMPDIR", home).env("KUBECONFIG", home.join("none"));
    set_home(&mut command, home);
    command
}

/// A helm command with the user's environment, without helm's own variables. A kubeconfig may name
/// programs that fetch credentials (`exec`), and those need the user's environment.
pub(super) fn user_command(path: &Path, home: &Path) -> Command {
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("HELM_") {
            command.env_remove(variable);
        }
    }
    set_home(&mut command, home);
    command
}

/// Settings for both: pipes, garbage collection, helm's folders.
fn set_home(command: &mut Command, home: &Path) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(GO_SETTINGS);
    for (variable, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(folder));
    }
}

/// Runs a program and reads its output, up to a limit. Blocks until the program ends. It must stay
/// on the thread that started the program: Linux sends a child's parent-death signal when the
/// parent
/// *thread* ends (prctl(2), `PR_SET_PDEATHSIG`).
pub(crate) fn run_command(
    mut command: Command,
    most: Duration,
    stop: &HelmStop,
) -> Result<ProgramOutput, Cause> {
    let mut child = command.spawn().map_err(|error| Cause::about("it cannot be started", error))?;
    let (sender, done) = mpsc::channel();
    // A thread for each pipe: a program that fills one of them while the other is read would hang.
    let stdout = child.stdout.take().map(|pipe| spawn_reader(pipe, MAX_RENDER, sender.clone()));
    let stderr = child.stderr.take().map(|pipe| spawn_reader(pipe, MAX_MESSAGE, sender));
    wait_for_pipes(&mut child, &done, most, stop)?;
    let status =
        child.wait().map_err(|error| Cause::about("its exit status cannot be read", error))?;
    let text = |pipe: Option<thread::JoinHandle<Vec<u8>>>| {
        pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if stdout.len() as u64 > MAX_RENDER {
        return Err(format!("its output exceeds {MAX_RENDER} bytes").into());
    }
    Ok(ProgramOutput {
        success: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Waits until both pipes are closed, asks the program to end on request, and kills it when its
/// time is up. Helm's own children may keep a pipe open after helm has ended.
fn wait_for_pipes(
    child: &mut Child,
    done: &mpsc::Receiver<()>,
    most: Duration,
    stop: &HelmStop,
) -> Result<(), String> {
    let started = Instant::now();
    let mut stopped: Option<Instant> = None;
    let mut open = 2;
    while open > 0 {
        if done.recv_timeout(PERIOD).is_ok() {
            open -= 1;
            continue;
        }
        if stopped.is_none() && stop.is_requested() {
            stopped = Some(Instant::now());
            terminate_child(child);
        }
        if started.elapsed() > most || stopped.is_some_and(|at| at.elapsed() > GRACE) {
            // Both fail only when the program has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not finish within {} s", started.elapsed().as_secs()));
        }
    }
    Ok(())
}

/// Sends SIGTERM.
fn terminate_child(child: &Child) {
    let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // Fails only when the program has ended already.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

/// Starts a thread that reads a pipe to its end and keeps at most `most + 1` bytes; the extra byte
/// shows that there was more.
fn spawn_reader(
    mut pipe: impl Read + Send + 'static,
    most: u64,
    done: mpsc::Sender<()>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe breaks only when the program ends, and its exit status says more.
        let _ = pipe.by_ref().take(most + 1).read_to_end(&mut bytes);
        // The rest is read and dropped: a full pipe would block the program.
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let _ = done.send(());
        bytes
    })
}
