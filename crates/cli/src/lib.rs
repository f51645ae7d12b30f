//! The `gantry` command: parses the command line, runs one subcommand and turns its result into an
//! exit code.
//!
//! Each subcommand has a file in `commands/`. Everything printed goes through `ui`, exit codes are
//! decided in `error` alone, and `context` holds what every subcommand receives (global options,
//! configuration, terminal).
//!
//! All of it is a library, so that the program itself (`main.rs`) is linked in a moment: dynamically for
//! the tests, statically for `cargo xtask dist`.

mod chart_values;
mod charts;
mod clusters;
#[cfg(test)]
mod command_reference;
mod commands;
mod content_changes;
mod context;
mod environment;
mod error;
#[cfg(test)]
mod error_samples;
mod live_view;
mod manifests;
mod model_targets;
mod output_files;
mod parse_error;
mod seeder_session;
mod site_digests;
mod site_releases;
mod ui;
mod value_parsers;

use std::ffi::OsString;
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
    if let Some(format) = find_misplaced_format(std::env::args_os()) {
        return ui::report_error(
            &error::CommandError::usage_error(format!(
                "-o {format}: -o names a file or a folder, not the format of the result"
            ))
            .with_hint("for results as JSON write: --output json")
            .with_hint(format!("for a file of that name write: -o ./{format}")),
        );
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports `--help` and `--version` as errors too, with exit code 0. All other errors
            // of its parser have exit code 2, which is also our code for bad usage.
            if error.exit_code() != 0 && wants_json(std::env::args_os()) {
                ui::print_errors_as_json();
                return ui::report_error(&parse_error::convert_parse_error(&error));
            }
            return ui::report_parse_error(&error);
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

/// The format that a command line asks for as kubectl and helm have it (`-o json`), if it does.
fn find_misplaced_format(arguments: impl IntoIterator<Item = OsString>) -> Option<String> {
    const FORMATS: [&str; 4] = ["json", "yaml", "table", "wide"];
    let mut previous = OsString::new();
    for argument in arguments {
        if argument == "--" {
            return None;
        }
        let text = argument.to_string_lossy();
        let value = match previous == "-o" {
            true => Some(&*text),
            false => text.strip_prefix("-o").map(|value| value.trim_start_matches('=')),
        };
        if let Some(format) = value.filter(|value| FORMATS.contains(value)) {
            return Some(format.to_owned());
        }
        previous = argument;
    }
    None
}

/// Whether a command line that could not be parsed asks for JSON.
fn wants_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut previous = OsString::new();
    for argument in arguments {
        if argument == "--" {
            return false;
        }
        if argument == "--output=json" || previous == "--output" && argument == "json" {
            return true;
        }
        previous = argument;
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_holds_together() {
        super::Cli::command().debug_assert();
    }

    /// The width of the terminal that help is written for in snapshots.
    const WIDTH: usize = 100;

    #[test]
    fn the_help_of_every_command_is_as_reviewed() {
        let mut command = super::Cli::command().term_width(WIDTH);
        command.build();
        let mut texts = Vec::new();
        collect_help(&mut command, &mut texts);
        // The variables' values belong to whoever runs the test.
        let filters = [(r"\[env: (\w+)=[^\]]*\]", "[env: $1]"), (r"[ \t]+\n", "\n")];
        insta::with_settings!({ filters => filters, omit_expression => true }, {
            for (name, text) in texts {
                insta::assert_snapshot!(name, text);
            }
        });
    }

    /// The long help of a command and of the commands in it, the hidden ones too.
    fn collect_help(command: &mut clap::Command, texts: &mut Vec<(String, String)>) {
        let name = command.get_bin_name().unwrap_or("gantry").replace(' ', "-");
        texts.push((format!("help-{name}"), command.render_long_help().to_string()));
        for own in command.get_subcommands_mut().filter(|own| own.get_name() != "help") {
            collect_help(own, texts);
        }
    }

    #[test]
    fn an_error_of_the_command_line_has_a_message_and_hints() {
        let commands = [
            "gantry",
            "gantry nonsense",
            "gantry pack --nonsense",
            "gantry pack --file-sise 4GiB",
            "gantry pack --file-size many",
            "gantry load x.gantry",
            "gantry load x.gantry --to",
            "gantry fetch --concurrency 0",
            "gantry lock --check --upgrade",
            "gantry --output xml version",
            "gantry -q -v version",
            "gantry models",
            "gantry store",
            "gantry policy",
            "gantry webhook --site site.yaml",
            "gantry policy images --site site.yaml --namespace Shop",
        ];
        let errors = commands.map(|line| {
            let error = super::Cli::try_parse_from(line.split(' ')).err().unwrap();
            format!("$ {line}\n{}", super::parse_error::convert_parse_error(&error).to_text())
        });
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!("errors-of-the-command-line", errors.join("\n"));
        });
    }

    #[test]
    fn a_format_where_kubectl_has_it_is_told() {
        let find = |line: &str| super::find_misplaced_format(line.split(' ').map(Into::into));
        for line in ["gantry lock -o json", "gantry pack -ojson", "gantry plan -o=json"] {
            assert_eq!(find(line).as_deref(), Some("json"), "{line}");
        }
        for line in ["gantry pack -o ./json", "gantry pack -o media", "gantry x -- helm -o json"] {
            assert_eq!(find(line), None, "{line}");
        }
    }

    #[test]
    fn errors_of_a_command_line_are_json_where_it_asks_for_that() {
        let wants = |line: &str| super::wants_json(line.split(' ').map(Into::into));
        assert!(wants("gantry lock --output json --nonsense"));
        assert!(wants("gantry --output=json nonsense"));
        assert!(!wants("gantry lock --output table json"));
        assert!(!wants("gantry tether -- helm --output json"));
    }
}
