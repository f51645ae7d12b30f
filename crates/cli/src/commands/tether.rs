//! `gantry tether`: becomes another program, one that ends with the gantry that started it. A helm
//! that outlived a killed gantry would go on while the next one mends what it left.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::error::{CommandError, Result};

/// Run a program that ends when its parent does.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The process that it ends with.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Some((program, rest)) = args.program.split_first() else {
        return Err(CommandError::usage("name a program"));
    };
    tie(args.parent)?;
    // Only a failure comes back.
    let cause = Command::new(program).args(rest).exec();
    Err(CommandError::failed(format!("cannot run {}: {cause}", program.display())))
}

/// Asks the kernel to end this process with its parent; that outlives the exec (`prctl(2)`).
#[cfg(target_os = "linux")]
fn tie(parent: i32) -> Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    let failed = |cause: String| CommandError::failed(format!("cannot be tied: {cause}"));
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|cause| failed(cause.to_string()))?;
    // It may have gone before the kernel was asked.
    match getppid().map(Pid::as_raw_pid) {
        Some(id) if id == parent => Ok(()),
        _ => Err(failed("its parent is gone".to_owned())),
    }
}

/// Elsewhere nothing ties a process: a helm that outlives its gantry ends by itself, and the next run
/// waits a while for it.
#[cfg(not(target_os = "linux"))]
fn tie(_: i32) -> Result<()> {
    Ok(())
}
