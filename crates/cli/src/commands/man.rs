//! `gantry man`: manual pages, made from the help.

use std::path::{Path, PathBuf};

use clap_mangen::Man;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::output_files::{OutputKind, OverwriteArgs};

/// Print the manual page of gantry or of a command, or write the pages of all commands into a folder.
///
/// The pages are those of `--help`, in the form that man reads.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry man | man -l -                          # the page of gantry itself
  gantry man pack | man -l -
  gantry man store gc > gantry-store-gc.1
  sudo gantry man -o /usr/local/share/man/man1   # all; then: man gantry-pack")]
pub(crate) struct ManArgs {
    /// The command whose page is printed [default: gantry itself].
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
    /// The folder to write all pages to; it is created if it does not exist.
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overwrite: OverwriteArgs,
}

pub(crate) fn run(
    context: &CommandContext,
    args: &ManArgs,
    mut definition: clap::Command,
) -> Result<()> {
    // Fills in the full names of the subcommands.
    definition.build();
    match &args.out {
        Some(folder) => write_pages(context, folder, args.overwrite, &definition),
        None => {
            let mut command = &definition;
            for name in &args.command {
                command = command.find_subcommand(name).ok_or_else(|| {
                    CommandError::usage_error(format!("there is no command {name}"))
                        .with_hint("list the commands with: gantry --help")
                })?;
            }
            context.ui.print_document(&render_page(command)?)
        }
    }
}

fn write_pages(
    context: &CommandContext,
    folder: &Path,
    overwrite: OverwriteArgs,
    definition: &clap::Command,
) -> Result<()> {
    let mut pages = Vec::new();
    collect_pages(definition, &mut pages)?;
    for (name, _) in &pages {
        overwrite.check_file_in_new_folder(&folder.join(name), OutputKind::ManualPage)?;
    }
    for (name, text) in &pages {
        environment::write_file_with_folders(&folder.join(name), text)?;
    }
    context.ui.print_status(&format!("{} pages written to {}", pages.len(), folder.display()));
    Ok(())
}

/// The pages of a command and of those in it, with their file names.
fn collect_pages(command: &clap::Command, pages: &mut Vec<(String, String)>) -> Result<()> {
    pages.push((format!("{}.1", page_name(command)), render_page(command)?));
    let shown = |own: &&clap::Command| !own.is_hide_set() && own.get_name() != "help";
    command.get_subcommands().filter(shown).try_for_each(|own| collect_pages(own, pages))
}

/// `gantry-store-gc`.
fn page_name(command: &clap::Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).replace(' ', "-")
}

fn render_page(command: &clap::Command) -> Result<String> {
    let failed = |cause: std::io::Error| {
        CommandError::failure(format!("cannot make the page of {}: {cause}", command.get_name()))
    };
    let man = Man::new(command.clone())
        .title(page_name(command))
        .manual("Gantry")
        .source(format!("gantry {}", env!("CARGO_PKG_VERSION")));
    // The comment is how Gantry knows its own pages again (`--force`).
    let mut page = b".\\\" Written by gantry man.\n".to_vec();
    man.render(&mut page).map_err(failed)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let mut command = crate::Cli::command();
        command.build();
        let mut pages = Vec::new();
        collect_pages(&command, &mut pages).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["gantry.1", "gantry-pack.1", "gantry-store-gc.1", "gantry-man.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.contains(&"gantry-tether.1"));
        for (name, page) in &pages {
            assert!(page.contains(".TH "), "{name}: {page}");
        }
        let pack = &pages.iter().find(|(name, _)| name == "gantry-pack.1").unwrap().1;
        assert!(pack.contains("gantry pack \\-o /media/disk"), "{pack}");
    }
}
