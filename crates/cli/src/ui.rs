//! Everything that Gantry prints. Results go to standard output (a table, or JSON), everything else to
//! standard error: progress, warnings, errors. `terminal` writes both, and cleans what others wrote.

mod json;
mod log;
mod progress;
mod table;
mod terminal;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;
use types::foreign_text::{clean_message, clean_text, escape_text};

pub(crate) use self::json::format_json;
pub(crate) use self::log::{LogFormat, LogSettings};
use self::progress::ProgressDetail;
pub(crate) use self::progress::ProgressMeter;
pub(crate) use self::table::{format_rows, format_table};
pub(crate) use self::terminal::{
    Answer, ask_question, ask_text, is_interactive, is_stderr_live, is_stdout_terminal,
};
use self::terminal::{Color, print_message, write_to_stderr, write_to_stdout};
use crate::error::{CommandError, Result};

/// Moves the cursor to the top left and clears what follows it (ECMA-48, CUP and ED).
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

/// Whether errors are printed as JSON. A static, since an error is printed by `main` (or by the
/// thread that handles Ctrl-C), where no [`Ui`] exists any more.
static JSON_ERRORS: AtomicBool = AtomicBool::new(false);

/// The format of results on standard output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table or text for people.
    Table,
    /// JSON with a stable schema, for programs.
    Json,
}

/// The terminal, as the global options want it used.
pub(crate) struct Ui {
    output: OutputFormat,
    quiet: bool,
    verbose: u8,
}

impl Ui {
    /// Sets up output and the log of `--verbose` (or `GANTRY_LOG`, a filter of `tracing`).
    ///
    /// # Errors
    ///
    /// The log file cannot be opened.
    pub(crate) fn new(
        output: OutputFormat,
        quiet: bool,
        verbose: u8,
        log: &LogSettings<'_>,
    ) -> Result<Self> {
        JSON_ERRORS.store(output == OutputFormat::Json, Ordering::Relaxed);
        log.start(quiet, verbose)?;
        Ok(Self { output, quiet, verbose })
    }

    /// Prints the result of a subcommand: as JSON, or as the text that `table` makes of it.
    pub(crate) fn print_result<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        // `table` is called only if its text is printed.
        match self.output {
            OutputFormat::Table => self.print_text(&table(value)),
            OutputFormat::Json => self.print_json(value),
        }
    }

    /// Whether only results and errors are printed (`--quiet`).
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether results are printed as JSON (`--output json`).
    pub(crate) fn is_json(&self) -> bool {
        self.output == OutputFormat::Json
    }

    /// Prints a result for people, and a line end.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    pub(crate) fn print_text(&self, text: &str) -> Result<()> {
        match text.trim_end_matches('\n') {
            "" => Ok(()),
            text => write_to_stdout(format!("{}\n", clean_text(text)).as_bytes()),
        }
    }

    /// As [`Ui::print_text`], in place of what the terminal shows.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    pub(crate) fn redraw_text(&self, text: &str) -> Result<()> {
        let text = clean_text(text.trim_end_matches('\n'));
        write_to_stdout(format!("{CLEAR_SCREEN}{text}\n").as_bytes())
    }

    /// Prints a result as an indented JSON document.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    fn print_json(&self, value: &impl Serialize) -> Result<()> {
        let text = format_json(value)
            .map_err(|cause| CommandError::failure(format!("cannot print the result: {cause}")))?;
        write_to_stdout(format!("{text}\n").as_bytes())
    }

    /// Prints a document that is itself the result (manifests, an overlay, a completion script) and that
    /// other programs read: byte for byte, except on a terminal.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    pub(crate) fn print_document(&self, text: &str) -> Result<()> {
        if is_stdout_terminal() {
            return write_to_stdout(escape_text(text).as_bytes());
        }
        write_to_stdout(text.as_bytes())
    }

    /// Prints what is being done, to standard error.
    pub(crate) fn print_status(&self, message: &str) {
        if !self.quiet {
            print_message("", Color::None, message);
        }
    }

    /// Prints a warning, to standard error.
    pub(crate) fn print_warning(&self, message: &str) {
        if !self.quiet {
            print_message("warning:", Color::Yellow, message);
        }
    }

    /// Prints one warning for all items that have the same problem: `about` says what it is.
    pub(crate) fn print_grouped_warning(&self, about: &str, items: &[String]) {
        /// More items would push everything else off the screen; the result lists them all.
        const SHOWN: usize = 5;
        match items {
            [] => {}
            [item] => self.print_warning(&format!("{item}: {about}")),
            items => {
                let mut message = format!("{} items: {about}", items.len());
                for item in items.iter().take(SHOWN) {
                    message.push_str(&format!("\n  {item}"));
                }
                if items.len() > SHOWN {
                    message.push_str(&format!("\n  … and {} more", items.len() - SHOWN));
                }
                self.print_warning(&message);
            }
        }
    }

    /// Asks for a confirmation on the terminal. Without one nobody can answer: then it is taken as given.
    ///
    /// # Errors
    ///
    /// The answer is not yes.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    pub(crate) fn require_confirmation(&self, question: &str) -> Result<()> {
        if !is_interactive() || ask_question(question) == Answer::Yes {
            return Ok(());
        }
        Err(CommandError::usage_error("not confirmed; nothing was changed")
            .with_hint("answer y, or give --yes"))
    }

    /// Starts a progress display: a line that is redrawn on a terminal, elsewhere a line every few
    /// seconds. `doing` is its label, at most 9 characters.
    pub(crate) fn start_progress(&self, doing: &'static str) -> Arc<ProgressMeter> {
        let detail = match (self.quiet, self.verbose) {
            (true, _) => ProgressDetail::Nothing,
            (false, 0) => ProgressDetail::Summary,
            (false, _) => ProgressDetail::Items,
        };
        Arc::new(ProgressMeter::start(doing, detail))
    }
}

/// What is printed for an error with `--output json`, as one line on standard error.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ErrorDocument {
    error: ErrorObject,
}

#[derive(Serialize, JsonSchema)]
struct ErrorObject {
    /// failed (exit code 1), usage (2), integrity (3) or partial (4).
    kind: String,
    message: String,
    /// What led to it, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// What to do next.
    hints: Vec<String>,
}

/// Prints errors as JSON from now on. For errors of the command line itself, which come before
/// [`Ui::new`].
pub(crate) fn print_errors_as_json() {
    JSON_ERRORS.store(true, Ordering::Relaxed);
}

/// Prints an error and returns its exit code.
pub(crate) fn report_error(error: &CommandError) -> ExitCode {
    print_error(error);
    ExitCode::from(error.exit_code())
}

/// Prints an error and exits the process at once. For threads that cannot return an error.
pub(crate) fn exit_with_error(error: &CommandError) -> ! {
    print_error(error);
    std::process::exit(error.exit_code().into())
}

/// Prints an error of the command line's parser, or the help that was asked for, and returns the exit
/// code.
pub(crate) fn report_parse_error(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render();
        // The parser colours its own words. What the command line contains may have escapes of its own,
        // and is then shown without colours.
        let plain = text.to_string();
        match plain.chars().any(|character| character.is_control() && character != '\n') {
            true => write_to_stderr(clean_message(&plain).as_bytes()),
            false => drop(error.print()),
        }
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    match error.print() {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => report_error(
            &CommandError::failure(format!("cannot write to standard output: {cause}")),
        ),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints an error, its causes and its hints, as text or as one line of JSON.
fn print_error(error: &CommandError) {
    let (kind, message, hints) = (error.kind().as_str(), error.message(), error.hints());
    if JSON_ERRORS.load(Ordering::Relaxed) {
        let error = ErrorObject {
            kind: kind.to_owned(),
            message: clean_message(message),
            causes: error.causes().iter().map(|cause| clean_message(cause)).collect(),
            hints: hints.iter().map(|hint| clean_message(hint)).collect(),
        };
        // Texts can always be written as JSON.
        let json = serde_json::to_string(&ErrorDocument { error }).unwrap_or_default();
        write_to_stderr(format!("{json}\n").as_bytes());
        return;
    }
    print_message("error:", Color::BoldRed, message);
    for cause in error.causes() {
        print_message("cause:", Color::Red, cause);
    }
    for hint in hints {
        print_message("hint:", Color::Cyan, hint);
    }
}
