//! `gantry completion`: prints shell completions, generated from the command line's definition.

use clap_complete::Shell;

use crate::context::CommandContext;
use crate::error::Result;

/// Print a script that completes gantry's commands and options in a shell.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry completion bash > /etc/bash_completion.d/gantry
  gantry completion zsh > \"${fpath[1]}/_gantry\"
  gantry completion fish > ~/.config/fish/completions/gantry.fish")]
pub(crate) struct CompletionArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(
    context: &CommandContext,
    args: &CompletionArgs,
    mut definition: clap::Command,
) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "gantry", &mut script);
    context.ui.print_document(&String::from_utf8_lossy(&script))
}
