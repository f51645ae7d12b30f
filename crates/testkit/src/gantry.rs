//! The gantry binary as a user runs it: with a home, a store and a configuration of its own, to the
//! end or in the background, and killed without warning where a test wants that.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cluster::TestCluster;
use crate::process::ServerProcess;
use crate::tools;

/// How the binary is called.
#[derive(Debug, Clone)]
#[must_use]
pub struct Gantry {
    binary: PathBuf,
    home: PathBuf,
    folder: PathBuf,
    store: PathBuf,
    environment: Vec<(String, String)>,
}

/// What a finished run has left.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Its progress, notes and errors.
    pub stderr: String,
}

/// A run in the background; killed on drop.
#[derive(Debug)]
pub struct RunningGantry {
    process: ServerProcess,
}

impl Gantry {
    /// The binary (a test's `env!("CARGO_BIN_EXE_gantry")`) in a home folder that exists. It works
    /// in `home/work`, stores in `home/store` and reads `home/config.yaml` if that is there; of
    /// this process's environment it sees the `PATH` alone.
    pub fn new(binary: impl AsRef<Path>, home: &Path) -> Self {
        let folder = home.join("work");
        std::fs::create_dir_all(&folder).expect("a folder can be made in a home");
        Self {
            binary: binary.as_ref().to_path_buf(),
            home: home.to_path_buf(),
            folder,
            store: home.join("store"),
            environment: Vec::new(),
        }
    }

    /// The same, working in this folder (where `gantry.yaml` is).
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = folder.to_path_buf();
        self
    }

    /// The same, with this store.
    pub fn with_store(mut self, store: &Path) -> Self {
        self.store = store.to_path_buf();
        self
    }

    /// The same, with one more variable in its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().display().to_string()));
        self
    }

    /// The same, with this cluster's kubeconfig.
    pub fn in_cluster(self, cluster: &TestCluster) -> Self {
        self.env("KUBECONFIG", cluster.kubeconfig())
    }

    /// The folder that it works in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of its store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Writes a file in the folder that it works in: `gantry.yaml`, mostly.
    pub fn write_file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).expect("a folder can be made");
        }
        std::fs::write(&file, text).expect("a file can be written");
        file
    }

    /// Reads a file in the folder that it works in: `gantry.lock`, mostly.
    pub fn read_file(&self, name: &str) -> String {
        let file = self.folder.join(name);
        std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
    }

    /// The command with these arguments, not started: to be wrapped (`loopback_only`, `time`) or
    /// given another environment.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.binary);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tools = std::iter::once(tools::cache_folder().join("bin"));
        let path = std::env::join_paths(tools.chain(std::env::split_paths(&path)))
            .expect("a PATH's folders can be joined again");
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home)
            .env("GANTRY_STORE", &self.store)
            .env("GANTRY_CONFIG", self.home.join("config.yaml"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to the end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> CommandOutput {
        let mut command = self.command(arguments);
        let output =
            command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        CommandOutput {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts it in the background.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> RunningGantry {
        // A file of its own for each run; what two runs print must not mix.
        let log = tempfile::Builder::new().prefix("gantry-").suffix(".log").tempfile_in(&self.home);
        let log = log.and_then(|file| file.keep().map_err(|error| error.error));
        let (_, path) = log.expect("a log can be made in the home");
        RunningGantry { process: ServerProcess::start(&mut self.command(arguments), &path) }
    }
}

#[expect(clippy::return_self_not_must_use, reason = "an assertion may be all that is wanted")]
impl CommandOutput {
    /// The same, when the run succeeded.
    ///
    /// # Panics
    /// When it did not, with all that it said.
    #[track_caller]
    pub fn assert_success(self) -> Self {
        self.assert_exit_code(0)
    }

    /// The same, when the run ended with this exit code (DESIGN section 3: 1 failed, 2 bad input,
    /// 3 integrity, 4 part done).
    ///
    /// # Panics
    /// When it did not, with all that it said.
    #[track_caller]
    pub fn assert_exit_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "the exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The result of `--output json`.
    #[track_caller]
    pub fn parse_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}) in:\n{}", self.stdout))
    }
}

impl RunningGantry {
    /// Waits until it has printed `marker`, and gives the word behind it (an address, mostly).
    pub fn wait_for_word_after(&mut self, marker: &str) -> String {
        self.process.wait_for_word_after(marker)
    }

    /// All that it has printed, results and others together.
    pub fn printed_text(&self) -> String {
        self.process.output()
    }

    /// How many bytes it has read, from files and connections.
    pub fn count_read_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.process.id()))
            .expect("the kernel counts what a process reads");
        let count = text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
        count.expect("it says rchar")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM, as Kubernetes and systemd stop a daemon; gives its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.send_signal("TERM");
        self.process.wait()
    }

    /// SIGINT, as Ctrl-C sends it; gives its exit code.
    pub fn interrupt(mut self) -> Option<i32> {
        self.send_signal("INT");
        self.process.wait()
    }

    /// Waits for its end; gives its exit code.
    pub fn wait(mut self) -> Option<i32> {
        self.process.wait()
    }

    fn send_signal(&self, name: &str) {
        tools::run_command(
            tools::tool_command("kill").arg(format!("-{name}")).arg(self.process.id().to_string()),
        );
    }
}
