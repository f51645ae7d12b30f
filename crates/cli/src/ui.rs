//! Everything that Gantry prints. Results go to standard output (a table, or JSON), everything else to
//! standard error: progress, warnings, errors.
#![expect(clippy::print_stderr, reason = "this is the only module that prints")]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemars::JsonSchema;
use serde::Serialize;
use store::progress::Progress;
use types::ByteSize;

use crate::error::{CommandError, Result};

/// Without a terminal, a line in this interval shows that the work continues: often enough for a
/// person who follows a CI log, rare enough not to fill it.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

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
    pub(crate) fn new(output: OutputFormat, quiet: bool, verbose: u8) -> Self {
        JSON_ERRORS.store(output == OutputFormat::Json, Ordering::Relaxed);
        // Dependencies log much more than Gantry. Their `debug` shows requests (`-vv`) but not the frames
        // and handshakes below them.
        let level = match verbose {
            0 => "warn",
            1 => "gantry=info,access=info,warn",
            _ => "debug,hyper=info,h2=info,rustls=info",
        };
        if !quiet {
            let filter = tracing_subscriber::EnvFilter::try_from_env("GANTRY_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
            // Fails only if a logger exists already, as in tests.
            let _ = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(is_color_enabled())
                .with_target(false)
                .try_init();
        }
        Self { output, quiet, verbose }
    }

    /// Prints the result of a subcommand: as JSON, or as the text that `table` makes of it.
    pub(crate) fn print_result<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        // `table` is called only if its text is printed.
        let text = match self.output {
            OutputFormat::Table => table(value),
            OutputFormat::Json => serde_json::to_string_pretty(value).map_err(|cause| {
                CommandError::failure(format!("cannot print the result: {cause}"))
            })?,
        };
        self.print(text.trim_end_matches('\n'))
    }

    /// Whether only results and errors are printed (`--quiet`).
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether results are printed as JSON (`--output json`).
    pub(crate) fn is_json(&self) -> bool {
        self.output == OutputFormat::Json
    }

    /// Prints text that is itself the result (a completion script, a list) and a line end.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match writeln!(std::io::stdout().lock(), "{text}") {
            Ok(()) => Ok(()),
            // `gantry … | head` closes the pipe early; that is not an error.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CommandError::failure(format!("cannot write to stdout: {error}"))),
        }
    }

    /// Prints a result that has to stay byte for byte as it is, such as a stream of manifests.
    #[expect(clippy::unused_self, reason = "all printing goes through this type")]
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CommandError::failure(format!("cannot write to stdout: {error}"))),
        }
    }

    /// Prints what is being done, to standard error.
    pub(crate) fn print_status(&self, message: &str) {
        if !self.quiet {
            eprintln!("{message}");
        }
    }

    /// Prints a warning, to standard error.
    pub(crate) fn print_warning(&self, message: &str) {
        if !self.quiet {
            eprintln!("{} {message}", paint_text("warning:", "33"));
        }
    }

    /// Starts a progress display: a bar on a terminal, elsewhere a line every few seconds. `doing` is
    /// its label, at most 9 characters.
    pub(crate) fn start_progress(&self, doing: &'static str) -> Arc<ProgressMeter> {
        // Standard output may be redirected while a person watches, so only standard error counts.
        let is_live = !self.quiet && std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(0),
            if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix:>9} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {wide_msg}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(doing);
        if is_live {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Arc::new(ProgressMeter {
            bar,
            doing,
            is_live,
            quiet: self.quiet,
            verbose: self.verbose,
            expected: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            started: Instant::now(),
            last_line: Mutex::new(Instant::now()),
        })
    }
}

/// The progress of one operation, in bytes.
pub(crate) struct ProgressMeter {
    bar: ProgressBar,
    doing: &'static str,
    is_live: bool,
    quiet: bool,
    verbose: u8,
    expected: AtomicU64,
    moved: AtomicU64,
    skipped: AtomicU64,
    started: Instant,
    last_line: Mutex<Instant>,
}

impl ProgressMeter {
    /// Removes the bar and prints what was transferred.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        let (moved, skipped) =
            (self.moved.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed));
        if self.quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let there = if skipped > 0 {
            format!(", {} already present", ByteSize(skipped))
        } else {
            String::new()
        };
        let rate = format_rate(moved, seconds);
        eprintln!("{:>9} {}{there} in {seconds:.1} s{rate}", self.doing, ByteSize(moved));
    }

    /// Removes the bar and prints nothing.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn print_line(&self) {
        if self.is_live || self.quiet {
            return;
        }
        // Another thread is printing the line right now: this one need not wait for it.
        let Ok(mut last) = self.last_line.try_lock() else { return };
        // Called for every chunk of every transfer, so nearly all calls end here.
        if last.elapsed() < LINE_INTERVAL {
            return;
        }
        *last = Instant::now();
        let done = self.moved.load(Ordering::Relaxed) + self.skipped.load(Ordering::Relaxed);
        let expected = self.expected.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let moved = self.moved.load(Ordering::Relaxed);
        let left = format_time_left(moved, expected.saturating_sub(done), seconds);
        let rate = format_rate(moved, seconds);
        eprintln!("{:>9} {} of {}{rate}{left}", self.doing, ByteSize(done), ByteSize(expected));
    }
}

/// The rate as text to append; empty where there is too little to compute it from.
fn format_rate(bytes: u64, seconds: f64) -> String {
    // A rate over less than a few reads of the clock would be arbitrary.
    if seconds < 0.05 || bytes == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "only displayed")]
    let rate = (bytes as f64 / seconds) as u64;
    format!(", {}/s", ByteSize(rate))
}

/// The estimated time left as text to append; empty where it is unknown.
fn format_time_left(moved: u64, remaining: u64, seconds: f64) -> String {
    if moved == 0 || remaining == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "only displayed")]
    let left = seconds * remaining as f64 / moved as f64;
    format!(", about {left:.0} s left")
}

impl Progress for ProgressMeter {
    fn expect_bytes(&self, bytes: u64) {
        let all = self.expected.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.set_length(all);
    }

    fn advance_bytes(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
        self.print_line();
    }

    fn skip_bytes(&self, bytes: u64) {
        self.skipped.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
    }

    fn finish_item(&self, name: &str) {
        if self.quiet {
            return;
        }
        if self.is_live {
            self.bar.set_message(name.to_owned());
        }
        if self.verbose > 0 {
            // `suspend` hides the bar meanwhile, which would otherwise be printed over.
            self.bar.suspend(|| eprintln!("{:>9} {name}", "done"));
        }
    }

    fn add_note(&self, message: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{:>9} {message}", "note:"));
        }
    }
}

/// A table with aligned columns and no borders, which is easy to read and to process with `cut`.
pub(crate) fn format_table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Lines of a name and a value, with the values aligned.
pub(crate) fn format_rows(rows: Vec<[String; 2]>) -> String {
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        rows.iter().map(|[name, value]| format!("{name:width$}  {value}")).collect();
    lines.join("\n") + "\n"
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

/// Prints an error, its causes and its hints, as text or as one line of JSON.
fn print_error(error: &CommandError) {
    let (kind, message, hints) = (error.kind().as_str(), error.message(), error.hints());
    if JSON_ERRORS.load(Ordering::Relaxed) {
        let error = ErrorObject {
            kind: kind.to_owned(),
            message: message.to_owned(),
            causes: error.causes().to_vec(),
            hints: hints.to_vec(),
        };
        // Texts can always be written as JSON.
        eprintln!("{}", serde_json::to_string(&ErrorDocument { error }).unwrap_or_default());
        return;
    }
    eprintln!("{} {message}", paint_text("error:", "1;31"));
    for cause in error.causes() {
        eprintln!("{} {cause}", paint_text("cause:", "31"));
    }
    for hint in hints {
        eprintln!("{} {hint}", paint_text("hint:", "36"));
    }
}

fn paint_text(text: &str, code: &str) -> String {
    if is_color_enabled() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

// NO_COLOR as in https://no-color.org: it counts if it is set and not empty.
fn is_color_enabled() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rate_is_shown_only_where_there_is_enough_to_compute_it_from() {
        assert_eq!(format_rate(10 << 20, 2.0), format!(", {}/s", ByteSize(5 << 20)));
        assert_eq!(format_rate(10 << 20, 0.01), "");
        assert_eq!(format_rate(0, 10.0), "");
    }

    #[test]
    fn the_time_left_comes_from_what_was_transferred_and_not_from_what_was_there() {
        // A tenth of the rest in three seconds.
        assert_eq!(format_time_left(100, 1000, 3.0), ", about 30 s left");
        assert_eq!(format_time_left(0, 1000, 3.0), "");
        assert_eq!(format_time_left(100, 0, 3.0), "");
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_with_spaces() {
        let rows = vec![["a".into(), "1".into()], ["long name".into(), String::new()]];
        let table = format_table(["name", "size"], rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1].find('1'), lines[0].find("SIZE"));
        assert!(lines.iter().all(|line| line.trim_end() == *line), "{table:?}");
        assert_eq!(lines[2], "long name");
    }

    #[test]
    fn values_stand_below_each_other() {
        let rows = format_rows(vec![["a".into(), "1".into()], ["longer".into(), "2".into()]]);
        assert_eq!(rows, "a       1\nlonger  2\n");
        assert_eq!(format_rows(vec![]), "\n");
    }
}
