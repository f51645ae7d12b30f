//! `docs/reference/cli.md`, the reference of the command line, is made from the definitions that
//! `--help` prints. The test here compares the page with them. To write the page anew, in the
//! repository's root:
//!
//! ```sh
//! GANTRY_DOCS=write cargo test --lib command_reference
//! ```

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

/// If this variable is `write`, the page is written instead of compared.
const VARIABLE: &str = "GANTRY_DOCS";
/// The page, seen from the repository's root.
const PAGE: &str = "docs/reference/cli.md";
/// The head of the page.
const HEAD: &str = "\
# Command line

<!-- Not written by hand: GANTRY_DOCS=write cargo test --lib command_reference -->

This page is made from the text of `gantry COMMAND --help`.
";

#[test]
fn the_reference_of_the_command_line_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let page = render_page();
    if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
        std::fs::write(&path, page).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    let same = page.lines().zip(committed.lines()).take_while(|(new, old)| new == old).count();
    assert!(
        page == committed,
        "{PAGE} is out of date from line {}: the help says {:?}; write the page anew with: \
         {VARIABLE}=write cargo test --lib command_reference",
        same + 1,
        page.lines().nth(same).unwrap_or_default(),
    );
}

#[test]
fn help_becomes_markdown() {
    assert_eq!(escape_text("`a <b>` of <c> or *.gantry"), "`a <b>` of \\<c> or \\*.gantry");
    assert_eq!(
        link_pages("What it does (docs/how-to/webhook.md)."),
        "What it does ([how-to/webhook.md](../how-to/webhook.md))."
    );
    assert_eq!(
        render_closing_text("Examples:\n  gantry x\n    --y\n\nExit codes: 0 done"),
        "\nExamples:\n\n```sh\ngantry x\n  --y\n```\n\nExit codes: 0 done.\n"
    );
}

/// The whole page.
fn render_page() -> String {
    let mut root = crate::Cli::command();
    // Completes the commands as for parsing: full names, usage lines.
    root.build();
    let mut commands = Vec::new();
    collect_commands(&root, &mut commands);

    let mut page = String::from(HEAD);
    page.push_str(&render_about(&root));
    page.push_str("\n| command | |\n|---|---|\n");
    for command in &commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("| {} | {} |\n", link_command(command), escape_text(&about)));
    }
    page.push_str(&render_closing_help(&root));
    page.push_str(&render_arguments(&root, "##"));
    for command in commands {
        page.push_str(&render_command(command));
    }
    page
}

/// All commands below this one that `--help` lists, each before its own subcommands.
fn collect_commands<'a>(parent: &'a Command, commands: &mut Vec<&'a Command>) {
    for command in list_subcommands(parent) {
        commands.push(command);
        collect_commands(command, commands);
    }
}

fn list_subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|own| !own.is_hide_set() && own.get_name() != "help")
}

/// The section of one command.
fn render_command(command: &Command) -> String {
    let name = command_name(command);
    let usage = command.clone().render_usage().to_string();
    let usage: Vec<&str> =
        usage.lines().map(|line| line.trim_start_matches("Usage:").trim()).collect();
    let mut section = format!("\n## {name}\n{}", render_about(command));
    section.push_str(&format!("\n```text\n{}\n```\n", usage.join("\n")));
    let own: Vec<String> = list_subcommands(command).map(link_command).collect();
    if !own.is_empty() {
        section.push_str(&format!("\nCommands: {}.\n", own.join(", ")));
    }
    section.push_str(&render_arguments(command, "###"));
    section.push_str(&render_closing_help(command));
    section
}

/// The name as it is typed: `gantry models push`.
fn command_name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or(command.get_name())
}

fn link_command(command: &Command) -> String {
    let name = command_name(command);
    format!("[`{name}`](#{})", name.replace(' ', "-"))
}

/// What the command does, as paragraphs.
fn render_about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let paragraphs: Vec<String> =
        about.split("\n\n").map(|paragraph| format!("\n{}\n", render_text(paragraph))).collect();
    paragraphs.concat()
}

fn render_closing_help(command: &Command) -> String {
    let closing = command.get_after_long_help().or(command.get_after_help());
    closing.map(|text| render_closing_text(&text.to_string())).unwrap_or_default()
}

/// The text after the options: indented lines (examples) become code, everything else is text.
fn render_closing_text(text: &str) -> String {
    let mut closing = String::new();
    for block in text.split("\n\n") {
        let (title, lines) = match block.split_once('\n') {
            _ if block.starts_with(' ') => ("", block),
            Some((title, lines)) if lines.starts_with(' ') => (title, lines),
            _ => {
                closing.push_str(&format!("\n{}\n", render_text(block)));
                continue;
            }
        };
        if !title.is_empty() {
            closing.push_str(&format!("\n{}\n", escape_text(title)));
        }
        let indents = lines.lines().filter(|line| !line.trim().is_empty());
        let indent = indents.map(|line| line.len() - line.trim_start().len()).min();
        let indent = indent.unwrap_or_default();
        let code: Vec<&str> =
            lines.lines().map(|line| line.get(indent..).unwrap_or_default()).collect();
        let language = if title.starts_with("Example") { "sh" } else { "text" };
        closing.push_str(&format!("\n```{language}\n{}\n```\n", code.join("\n").trim_end()));
    }
    closing
}

/// The arguments and options of a command under the headings of its help. The options of every
/// command (`-C`, `--output`) are in the section of the root alone.
fn render_arguments(command: &Command, level: &str) -> String {
    let is_root = !command_name(command).contains(' ');
    let mut groups: Vec<(&str, Vec<&Arg>)> = vec![("Arguments", vec![]), ("Options", vec![])];
    for argument in command.get_arguments() {
        let is_help = matches!(
            argument.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        let is_of_root = argument.is_global_set() && !is_root;
        if argument.is_hide_set() || is_help || is_of_root {
            continue;
        }
        let usual = if argument.is_positional() { "Arguments" } else { "Options" };
        let heading = argument.get_help_heading().unwrap_or(usual);
        match groups.iter_mut().find(|(name, _)| *name == heading) {
            Some((_, arguments)) => arguments.push(argument),
            None => groups.push((heading, vec![argument])),
        }
    }
    groups
        .iter()
        .filter(|(_, arguments)| !arguments.is_empty())
        .map(|(heading, arguments)| {
            // In the sections of commands no heading, which would be another anchor of the same name.
            let title = if is_root {
                format!("\n{level} {heading}\n\n")
            } else {
                format!("\n**{heading}**\n\n")
            };
            title + &arguments.iter().copied().map(render_argument).collect::<String>()
        })
        .collect()
}

/// One item of the list of arguments: how it is written, its help, its default and its values.
fn render_argument(argument: &Arg) -> String {
    let short = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(_)) => format!("-{short}, "),
        _ => String::new(),
    };
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut paragraphs = help.split("\n\n").map(render_text);
    let mut item = format!("- `{short}{argument}`: {}", paragraphs.next().unwrap_or_default());
    for note in list_notes(argument) {
        item.push(' ');
        item.push_str(&note);
    }
    item.push('\n');
    for paragraph in paragraphs {
        item.push_str(&format!("\n  {}\n", paragraph.replace('\n', "\n  ")));
    }
    item
}

/// Sentences about an argument that `--help` prints in brackets.
fn list_notes(argument: &Arg) -> Vec<String> {
    let mut notes = Vec::new();
    if argument.is_required_set() && !argument.is_positional() {
        notes.push("Required.".to_owned());
    }
    // A switch has values as well (true and false), which nobody types.
    if argument.get_action().takes_values() {
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| match value.get_help() {
                Some(help) => {
                    format!("`{}` ({})", value.get_name(), escape_text(&help.to_string()))
                }
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        if !values.is_empty() && !argument.is_hide_possible_values_set() {
            notes.push(format!("Values: {}.", values.join(", ")));
        }
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        if !defaults.is_empty() && !argument.is_hide_default_value_set() {
            notes.push(format!("Default: {}.", defaults.join(", ")));
        }
    }
    if let Some(variable) = argument.get_env()
        && !argument.is_hide_env_set()
    {
        notes.push(format!("Environment variable: `{}`.", variable.to_string_lossy()));
    }
    notes
}

/// A paragraph of help as Markdown, with the full stop that clap removes.
fn render_text(text: &str) -> String {
    let mut rendered = link_pages(&escape_text(text.trim_end()));
    if !rendered.is_empty() && !rendered.ends_with(['.', ':', '!', '?']) {
        rendered.push('.');
    }
    rendered
}

/// Escapes what Markdown would read as markup, outside of `code`.
fn escape_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut is_code = false;
    for sign in text.chars() {
        if sign == '`' {
            is_code = !is_code;
        }
        if !is_code && matches!(sign, '<' | '*' | '_' | '~' | '|') {
            escaped.push('\\');
        }
        escaped.push(sign);
    }
    escaped
}

/// Makes links of the pages of this book that a help text names (`docs/how-to/webhook.md`).
fn link_pages(text: &str) -> String {
    const SUFFIX: &str = ".md";
    let link_word = |word: &str| {
        let (before, rest) = word.split_once("docs/")?;
        let end = rest.find(SUFFIX)? + SUFFIX.len();
        let (page, after) = rest.split_at(end);
        // A link inside of code would stay text.
        (!word.contains('`')).then(|| format!("{before}[{page}](../{page}){after}"))
    };
    text.split_inclusive(char::is_whitespace)
        .map(|word| link_word(word).unwrap_or_else(|| word.to_owned()))
        .collect()
}
