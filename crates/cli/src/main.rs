//! The `gantry` command: reads the command line, runs one verb, turns its result into an exit
//! code. One file a verb in `commands/`; `ui` is the one road to the terminal, `error` the one
//! place of exit codes, `context` what every verb gets.

mod charts;
mod claims;
mod clusters;
mod commands;
mod context;
mod error;
mod live;
mod offline;
mod place;
mod releases;
mod ui;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::context::{Context, GlobalArgs};

/// Bring AI platforms into Kubernetes clusters with no way out, and prove that they stay inside.
///
/// The way of the data: `init` writes gantry.yaml, `lock` resolves it to digests, `fetch` brings
/// everything into one store, `pack` writes volumes to carry. On the other side `verify` checks
/// them, `load` pushes them to the site's registry, `serve` hands them out in place, `relocate`
/// writes the values that make a chart run from there and proves them.
#[derive(Parser)]
#[command(
    name = "gantry",
    version,
    arg_required_else_help = true,
    after_long_help = "\
Examples:
  gantry init oci://ghcr.io/org/charts/app --version 1.2.3
  gantry lock && gantry plan && gantry fetch
  gantry pack -o /media/disk --volume-size 4GiB
  gantry verify /media/disk/*.gantry
  gantry load /media/disk/*.gantry --to registry.internal:5000/ai
  gantry serve /media/disk/*.gantry --listen 0.0.0.0:5000
  gantry images ./my-chart -f values.yaml
  gantry relocate ./my-chart -f values.yaml --site site.yaml -o overlay.yaml
  gantry policy images --site site.yaml --namespace app -o policy.yaml

Exit codes: 0 done, 1 failed, 2 bad input or usage (nothing was touched),
3 integrity or proof failed, 4 part done (run again to resume)."
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; everything else is bad usage, exit 2 (clap's own).
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let context = match Context::new(cli.global) {
        Ok(context) => context,
        Err(error) => return error::report(&error),
    };
    match commands::run(&context, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
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
