//! Writes to standard output and standard error. Everything for people passes through here, where text
//! of others is cleaned, so that no server or file can control the terminal; and a closed pipe or a full
//! disk is no panic.

use std::io::{self, BufRead as _, IsTerminal, Write};

use types::foreign_text::clean_message;

use crate::error::{CommandError, Result};

/// The width of standard output, in columns; `None` if it is not a terminal.
pub(super) fn find_stdout_width() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
}

/// The width of standard error, in columns; `None` if it is not a terminal.
pub(super) fn find_stderr_width() -> Option<usize> {
    console::Term::stderr().size_checked().map(|(_, columns)| usize::from(columns))
}

/// Whether results are read by a person on a terminal.
pub(crate) fn is_stdout_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether progress is drawn in place: standard error is a terminal that can do that.
pub(crate) fn is_stderr_live() -> bool {
    io::stderr().is_terminal() && is_terminal_able()
}

/// Prints a message to standard error, cleaned, with a coloured label in front (which may be empty).
pub(super) fn print_message(label: &str, color: Color, message: &str) {
    let message = clean_message(message);
    let label = paint_label(label, color);
    let gap = if label.is_empty() { "" } else { " " };
    write_to_stderr(format!("{label}{gap}{message}\n").as_bytes());
}

/// Writes to standard error as it is. Where that fails (a closed pipe, a full disk), nobody can be told,
/// and the exit code still says how the work ended.
pub(super) fn write_to_stderr(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Writes to standard output as it is.
///
/// # Errors
///
/// Standard output cannot be written, except that its reader is gone.
pub(super) fn write_to_stdout(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // `gantry … | head` closes the pipe early; that is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(CommandError::failure(format!("cannot write to standard output: {error}")))
        }
    }
}

/// The answer to a question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// Whether a person can be asked: standard input is a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Asks a question on the terminal and waits for a line.
pub(crate) fn ask_question(question: &str) -> Answer {
    write_to_stderr(format!("{} [y/N] ", clean_message(question)).as_bytes());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Answer::Yes,
        _ => Answer::No,
    }
}

/// Asks for a line of text on the terminal. `None` when there is none any more (Ctrl-D).
pub(crate) fn ask_text(question: &str) -> Option<String> {
    write_to_stderr(format!("{} ", clean_message(question)).as_bytes());
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(answer.trim().to_owned()),
    }
}

/// The colours of labels.
#[derive(Clone, Copy)]
pub(super) enum Color {
    None,
    BoldRed,
    Red,
    Yellow,
    Cyan,
}

fn paint_label(text: &str, color: Color) -> String {
    let code = match color {
        Color::None => return text.to_owned(),
        Color::BoldRed => "1;31",
        Color::Red => "31",
        Color::Yellow => "33",
        Color::Cyan => "36",
    };
    if is_color_enabled() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

// NO_COLOR as in https://no-color.org: it counts if it is set and not empty.
fn is_color_enabled() -> bool {
    io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && is_terminal_able()
}

fn is_terminal_able() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
