//! `gantry tether`: replaces itself by another program (helm) that is killed when the gantry that started
//! it ends. Otherwise a helm whose gantry was killed would go on changing the cluster, while the next
//! gantry repairs what it left half done.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::error::{CommandError, Result};

/// Run a program that ends with its parent process.
#[derive(clap::Args)]
pub(crate) struct TetherArgs {
    /// The process id of the parent.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

pub(crate) fn run(args: &TetherArgs) -> Result<()> {
    let Some((program, rest)) = args.program.split_first() else {
        return Err(CommandError::usage_error("give a program to run"));
    };
    end_with_parent(args.parent)?;
    // `exec` returns only if it failed.
    let cause = Command::new(program).args(rest).exec();
    Err(CommandError::failure(format!("cannot run {}: {cause}", program.display())))
}

/// Asks the kernel to kill this process when its parent ends. The setting survives `exec`
/// (PR_SET_PDEATHSIG in prctl(2)).
#[cfg(target_os = "linux")]
fn end_with_parent(parent: i32) -> Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    let failed = |cause: String| {
        CommandError::failure(format!("cannot be made to end with its parent: {cause}"))
    };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|cause| failed(cause.to_string()))?;
    // The parent may have ended before the request to the kernel; then no signal would come.
    match getppid().map(Pid::as_raw_pid) {
        Some(id) if id == parent => Ok(()),
        _ => Err(failed("the parent has ended".to_owned())),
    }
}

/// Other systems have no such request: a helm that outlives its gantry ends by itself, and the next run
/// waits for it.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_: i32) -> Result<()> {
    Ok(())
}
