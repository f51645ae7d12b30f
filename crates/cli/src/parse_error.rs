//! Errors of the command line parser, turned into errors of ours for `--output json`.

use crate::error::CommandError;

/// Turns an error of the parser into one of ours. Its text is `error: …`, then a paragraph with tips
/// and a usage line.
pub(crate) fn convert_parse_error(error: &clap::Error) -> CommandError {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CommandError::usage_error("no command is given")
            .with_hint("list the commands with: gantry --help");
    }
    let text = error.render().to_string();
    let is_message = |paragraph: &&str| {
        let start = paragraph.trim_start();
        !start.starts_with("tip:") && !start.starts_with("Usage:") && !start.starts_with("For more")
    };
    let message = text.split("\n\n").take_while(is_message).collect::<Vec<_>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let hints = tips.map(str::to_owned).chain(usage.map(|usage| format!("usage: {usage}")));
    hints.fold(CommandError::usage_error(message), CommandError::with_hint)
}
