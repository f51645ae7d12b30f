//! Errors of the command line parser, turned into errors of ours for `--output json`.

use crate::error::CommandError;

/// Turns an error of the parser into one of ours. Its text is `error: …`, then a paragraph with tips
/// and a usage line.
pub(crate) fn convert_parse_error(error: &clap::Error) -> CommandError {
    let text = error.render().to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CommandError::usage_error("no command is given")
            .with_hint(format!("list the commands with: {} --help", find_command(&text)));
    }
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

/// The command or group of commands whose help `text` is: the words of its usage line in front of the
/// options and arguments.
fn find_command(text: &str) -> String {
    let usage = text.lines().find_map(|line| line.trim_start().strip_prefix("Usage: "));
    let words = usage.unwrap_or("gantry").split_whitespace();
    let names: Vec<&str> = words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
    names.join(" ")
}
