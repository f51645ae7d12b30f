//! The verbs that are measured, in the order in which a user needs them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::TestRegistry;

use crate::bench::measure::{Sample, measure_command, prepare_gantry};

/// A server that is not ready by then is broken.
const START_DEADLINE: Duration = Duration::from_mins(5);
/// How often a starting server is asked.
const START_POLL: Duration = Duration::from_millis(5);

/// What is measured of a verb.
#[derive(Clone, Copy)]
pub(super) enum ScaleStep {
    /// A command, to its end.
    Command(&'static [&'static str]),
    /// A server, until it says that it is ready.
    Server(&'static [&'static str]),
    /// A load into the registry beside.
    Registry,
}

/// The verbs. Everything that walks the lock, a store, a bundle, a target or a chart's images is here,
/// but what needs a cluster (`deploy`, `check`, `audit`).
pub(super) const VERBS: [(&str, ScaleStep); 21] = [
    ("lock", ScaleStep::Command(&["lock"])),
    ("lock --check", ScaleStep::Command(&["lock", "--check"])),
    ("plan", ScaleStep::Command(&["plan"])),
    ("fetch", ScaleStep::Command(&["fetch"])),
    ("fetch, nothing new", ScaleStep::Command(&["fetch"])),
    ("pack", ScaleStep::Command(&["pack", "-o", "bundle"])),
    ("pack, nothing new", ScaleStep::Command(&["pack", "-o", "bundle"])),
    ("verify", ScaleStep::Command(&["verify", "bundle"])),
    ("inspect", ScaleStep::Command(&["inspect", "bundle"])),
    (
        "load into a folder",
        ScaleStep::Command(&["load", "bundle", "--to", "./site", "--receipt", "receipt.json"]),
    ),
    ("load into a folder, again", ScaleStep::Command(&["load", "bundle", "--to", "./site"])),
    ("load store into a folder", ScaleStep::Command(&["load", "store", "--to", "./other"])),
    ("load into a registry", ScaleStep::Registry),
    ("load into a registry, again", ScaleStep::Registry),
    ("serve a bundle: ready", ScaleStep::Server(&["serve", "bundle"])),
    ("serve a store: ready", ScaleStep::Server(&["serve", "store"])),
    ("store ls", ScaleStep::Command(&["store", "ls"])),
    ("store verify", ScaleStep::Command(&["store", "verify"])),
    ("store gc", ScaleStep::Command(&["store", "gc"])),
    ("images of a chart", ScaleStep::Command(&["images", "./chart"])),
    (
        "relocate a chart",
        ScaleStep::Command(&["relocate", "./chart", "--to", "site.example:5000/scale"]),
    ),
];

/// The binary, the folder that it works in, and a registry to load into.
pub(super) struct ScaleRun {
    gantry: PathBuf,
    folder: PathBuf,
    registry: TestRegistry,
}

impl ScaleRun {
    pub(super) fn new(gantry: &Path, folder: &Path) -> Self {
        let storage = folder.join("registry");
        Self {
            gantry: gantry.to_owned(),
            folder: folder.to_owned(),
            registry: TestRegistry::builder().storage(&storage).start(),
        }
    }

    pub(super) fn measure_step(&self, step: ScaleStep) -> Result<Sample, Box<dyn Error>> {
        match step {
            // Nobody looks how the folder grows: with 100,000 files that takes as long as the verb.
            ScaleStep::Command(arguments) => measure_command(self.command().args(arguments), &[]),
            ScaleStep::Registry => {
                let to = self.registry.host();
                measure_command(self.command().args(["load", "bundle", "--to", to]), &[])
            }
            ScaleStep::Server(arguments) => self.measure_start(arguments),
        }
    }

    fn command(&self) -> Command {
        prepare_gantry(&self.gantry, &self.folder)
    }

    /// Starts a server, asks until it is ready, and stops it; its memory is the peak until then.
    fn measure_start(&self, arguments: &[&str]) -> Result<Sample, Box<dyn Error>> {
        use wait4::Wait4 as _;
        let listen = crate::bench::extra::free_address()?;
        let start = Instant::now();
        let mut server = self
            .command()
            .args(arguments)
            .args(["--listen", &listen.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        while !crate::bench::extra::is_ready(listen) {
            if server.try_wait()?.is_some() || start.elapsed() > START_DEADLINE {
                return Err(format!("gantry {} does not start", arguments.join(" ")).into());
            }
            thread::sleep(START_POLL);
        }
        let wall = start.elapsed().as_secs_f64();
        server.kill()?;
        let used = server.wait4()?.rusage;
        let cpu = (used.utime + used.stime).as_secs_f64();
        Ok(Sample { wall, cpu, memory: used.maxrss as f64, disk: 0.0 })
    }
}

/// One command in a folder, to its end.
pub(super) fn measure_in_folder(
    gantry: &Path,
    folder: &Path,
    arguments: &[&str],
) -> Result<Sample, Box<dyn Error>> {
    measure_command(prepare_gantry(gantry, folder).args(arguments), &[])
}
