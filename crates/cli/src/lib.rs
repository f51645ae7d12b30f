//! The `gantry` command: parses the command line, runs one subcommand and turns its result into an
//! exit code.
//!
//! Each subcommand has a file in `commands/`. Everything printed goes through `ui`, exit codes are
//! decided in `error` alone, and `context` holds what every subcommand receives (global options,
//! configuration, terminal).
//!
//! All of it is a library, so that the program itself (`main.rs`) is linked in a moment: dynamically for
//! the tests, statically for `cargo xtask dist`.

mod charts;
mod clusters;
#[cfg(test)]
mod command_reference;
mod commands;
mod context;
mod environment;
mod error;
mod live_view;
mod model_targets;
mod seeder_session;
mod ui;
mod value_parsers;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::commands::GantryCommand;
use crate::context::{CommandContext, GlobalArgs};

/// Install AI platforms in air-gapped Kubernetes clusters, and prove that nothing is missing and
/// nothing connects to the outside.
///
/// Where there is internet access: `init` writes gantry.yaml, `lock` resolves charts, images, models
/// and files to digests in a lock file, `fetch` downloads everything into a local store, `pack` writes
/// bundle files to carry across. Inside the air gap: `verify` checks the bundle files, `load` pushes
/// their content to the site's registry and model targets, `serve` offers it directly from the
/// bundle files, `relocate` writes the values that make a chart use the site's registry, `deploy`
/// installs the charts, `check` and `audit` examine the result.
#[derive(Parser)]
#[command(
    name = "gantry",
    version,
    arg_required_else_help = true,
    after_long_help = "\
Examples:
  gantry init oci://ghcr.io/org/charts/app --version 1.2.3
  gantry lock && gantry plan && gantry fetch
  gantry pack -o /media/disk --file-size 4GiB
  gantry verify /media/disk/*.gantry
  gantry load /media/disk/*.gantry --to registry.internal:5000/ai
  gantry serve /media/disk/*.gantry --listen 0.0.0.0:5000
  gantry images ./my-chart -f values.yaml
  gantry relocate ./my-chart -f values.yaml --site site.yaml -o overlay.yaml
  gantry policy images --site site.yaml --namespace app -o policy.yaml

Exit codes: 0 done, 1 failed, 2 bad input or usage (nothing was changed),
3 an integrity check or a proof failed, 4 partly done (run the same command again to resume)."
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: GantryCommand,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports `--help` and `--version` as errors too, with exit code 0. All other errors
            // of its parser have exit code 2, which is also our code for bad usage.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // From here on, errors are printed as the global options want it (`--output json`).
    let context = match CommandContext::new(cli.global) {
        Ok(context) => context,
        Err(error) => return ui::report_error(&error),
    };
    match commands::run_command(&context, cli.command, Cli::command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ui::report_error(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        super::Cli::command().debug_assert();
    }
}
