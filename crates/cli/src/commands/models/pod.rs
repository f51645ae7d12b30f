//! `gantry models hold` and `receive`: what runs in a seeder pod. Hidden, since only Gantry runs them.
//!
//! `hold` is the pod's main process and only waits. The gantry outside starts `receive` in the same
//! container through the API server (exec), and sends the task on its standard input.

use std::time::{Duration, Instant};

use land::claim::{PodEnvironment, execute_order as work};

use crate::environment;
use crate::error::{CommandError, Result};
use crate::value_parsers::{WEEK, duration_within};

/// How often `hold` checks whether another process runs in the pod.
const PERIOD: Duration = Duration::from_secs(5);

/// Wait in a seeder pod until it is no longer needed.
///
/// The work is done by `gantry models receive` in the same container. If the gantry that started the
/// pod was killed, the pod ends by itself after the idle time.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models hold              # in a seeder pod")]
pub(crate) struct SeederHoldArgs {
    /// End after this long without another process in the pod (90s, 5m).
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_within(Duration::ZERO..=WEEK))]
    idle: Duration,
}

/// Carry out a task from standard input: write models to the volume at /models, or verify them.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models receive           # in a seeder pod, started by gantry models push")]
pub(crate) struct SeederReceiveArgs {}

pub(crate) fn hold_pod(args: &SeederHoldArgs) -> Result<()> {
    let waiting = async {
        let mut last = Instant::now();
        while last.elapsed() < args.idle {
            tokio::time::sleep(PERIOD).await;
            // Process 1 is this one; any other is a `receive` that works.
            if count_processes() > 1 {
                last = Instant::now();
            }
        }
    };
    environment::build_runtime()?.block_on(async {
        tokio::select! {
            () = waiting => {}
            // The kernel does not end process 1 of a container by a signal that it does not handle, so
            // the deletion of the pod would take the whole grace period.
            () = environment::wait_for_stop() => {}
        }
    });
    Ok(())
}

pub(crate) fn receive_task(_: &SeederReceiveArgs) -> Result<()> {
    /// `EX_TEMPFAIL` of sysexits.h: the connection was closed, and another try may succeed.
    const HUNG_UP: i32 = 75;
    let runtime = environment::build_runtime()?;
    let place = PodEnvironment::of_seeder_pod(runtime.handle().clone());
    let on_end = || std::process::exit(HUNG_UP);
    if work(&place, std::io::stdin(), std::io::stdout(), std::io::stderr(), on_end) {
        return Ok(());
    }
    Err(CommandError::failure("the task failed; the caller has received the reason"))
}

/// The number of processes in the container.
fn count_processes() -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 1 };
    let is_process = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    entries.flatten().filter(|entry| is_process(&entry.file_name())).count()
}
