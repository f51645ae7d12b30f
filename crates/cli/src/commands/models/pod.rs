//! `gantry models hold | receive`: what runs in a seeder pod. Hidden: nobody types them.

use std::time::{Duration, Instant};

use land::claim::{Place, receive as work};

use crate::error::{CommandError, Result};
use crate::world;

/// How often it is looked whether somebody works here.
const PERIOD: Duration = Duration::from_secs(5);

/// Wait until nobody needs the pod any more.
///
/// What is to be done comes by `gantry models receive` in the same container. A pod whose Gantry was
/// killed ends by itself.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models hold              # in a seeder pod")]
pub(crate) struct HoldArgs {
    /// Seconds without any other process after which it ends.
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    idle: u64,
}

/// Do what comes on standard input: put models into the volume at /models, or check them.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models receive           # in a seeder pod, spoken to by gantry models push")]
pub(crate) struct ReceiveArgs {}

pub(crate) fn hold(args: &HoldArgs) -> Result<()> {
    let idle = Duration::from_secs(args.idle);
    let waiting = async {
        let mut last = Instant::now();
        while last.elapsed() < idle {
            tokio::time::sleep(PERIOD).await;
            if processes() > 1 {
                last = Instant::now();
            }
        }
    };
    world::runtime()?.block_on(async {
        tokio::select! {
            () = waiting => {}
            // Taken away: process 1 is not ended by a signal that it does not handle.
            () = world::stopped() => {}
        }
    });
    Ok(())
}

pub(crate) fn receive(_: &ReceiveArgs) -> Result<()> {
    /// `EX_TEMPFAIL` of sysexits.h: the other side hung up, and may go on later.
    const HUNG_UP: i32 = 75;
    let runtime = world::runtime()?;
    let place = Place::in_pod(runtime.handle().clone());
    let on_end = || std::process::exit(HUNG_UP);
    if work(&place, std::io::stdin(), std::io::stdout(), std::io::stderr(), on_end) {
        return Ok(());
    }
    Err(CommandError::failed("it was told what failed"))
}

/// How many processes the container has.
fn processes() -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 1 };
    let is_process = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    entries.flatten().filter(|entry| is_process(&entry.file_name())).count()
}
