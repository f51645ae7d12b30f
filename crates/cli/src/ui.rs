//! The one road to the terminal. Results go to stdout (a table, or JSON), everything else to
//! stderr: progress, notes, errors.
#![expect(clippy::print_stderr, reason = "this is the one place that prints")]

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use store::progress::Progress;
use types::ByteSize;

use crate::context::Output;
use crate::error::{CommandError, Result};

/// Where nobody watches live, a line in this interval tells that work goes on.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Whether errors are printed as JSON; set once when the command line is known, since errors are
/// printed after everything else is gone.
static JSON_ERRORS: AtomicBool = AtomicBool::new(false);

/// The terminal.
pub(crate) struct Ui {
    output: Output,
    quiet: bool,
    verbose: u8,
}

impl Ui {
    /// Looks at what was asked for; sets up the log of `--verbose`.
    pub(crate) fn new(output: Output, quiet: bool, verbose: u8) -> Self {
        JSON_ERRORS.store(output == Output::Json, Ordering::Relaxed);
        let level = match verbose {
            0 => "warn",
            1 => "gantry=info,access=info,warn",
            _ => "debug,hyper=info,h2=info,rustls=info",
        };
        if !quiet {
            let filter = tracing_subscriber::EnvFilter::try_from_env("GANTRY_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
            let _ = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(color())
                .with_target(false)
                .try_init();
        }
        Self { output, quiet, verbose }
    }

    /// Prints the result of a verb: as JSON, or by `table` for people.
    pub(crate) fn result<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let text = match self.output {
            Output::Table => table(value),
            Output::Json => serde_json::to_string_pretty(value).map_err(|cause| {
                CommandError::failed(format!("cannot print the result: {cause}"))
            })?,
        };
        self.print(text.trim_end_matches('\n'))
    }

    /// Whether only errors and results are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether results are asked for as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Prints text that is itself the result (a completion script, a receipt).
    #[expect(clippy::unused_self, reason = "the terminal is spoken to through its one road")]
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match writeln!(std::io::stdout().lock(), "{text}") {
            Ok(()) => Ok(()),
            // `gantry … | head` closes early; that is no failure of ours.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CommandError::failed(format!("cannot write to stdout: {error}"))),
        }
    }

    /// Prints a result that must not get a byte more or less, such as a stream of manifests.
    #[expect(clippy::unused_self, reason = "the terminal is spoken to through its one road")]
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CommandError::failed(format!("cannot write to stdout: {error}"))),
        }
    }

    /// Tells what is being done.
    pub(crate) fn status(&self, message: &str) {
        if !self.quiet {
            eprintln!("{message}");
        }
    }

    /// Tells what might go wrong, with the next step.
    pub(crate) fn warn(&self, message: &str) {
        if !self.quiet {
            eprintln!("{} {message}", paint("warning:", "33"));
        }
    }

    /// A bar, or lines where nobody watches live.
    pub(crate) fn progress(&self, doing: &'static str) -> Arc<Meter> {
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
        Arc::new(Meter {
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

/// The progress of one operation.
pub(crate) struct Meter {
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

impl Meter {
    /// Ends the bar and says what was moved.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        let (moved, skipped) =
            (self.moved.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed));
        if self.quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let there =
            if skipped > 0 { format!(", {} were there", ByteSize(skipped)) } else { String::new() };
        let rate = rate(moved, seconds);
        eprintln!("{:>9} {}{there} in {seconds:.1} s{rate}", self.doing, ByteSize(moved));
    }

    /// Ends the bar and says nothing.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self) {
        if self.is_live || self.quiet {
            return;
        }
        let Ok(mut last) = self.last_line.try_lock() else { return };
        if last.elapsed() < LINE_INTERVAL {
            return;
        }
        *last = Instant::now();
        let done = self.moved.load(Ordering::Relaxed) + self.skipped.load(Ordering::Relaxed);
        let expected = self.expected.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let moved = self.moved.load(Ordering::Relaxed);
        let left = left(moved, expected.saturating_sub(done), seconds);
        let rate = rate(moved, seconds);
        eprintln!("{:>9} {} of {}{rate}{left}", self.doing, ByteSize(done), ByteSize(expected));
    }
}

fn rate(bytes: u64, seconds: f64) -> String {
    if seconds < 0.05 || bytes == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "for people")]
    let rate = (bytes as f64 / seconds) as u64;
    format!(", {}/s", ByteSize(rate))
}

fn left(moved: u64, remaining: u64, seconds: f64) -> String {
    if moved == 0 || remaining == 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let left = seconds * remaining as f64 / moved as f64;
    format!(", about {left:.0} s left")
}

impl Progress for Meter {
    fn expect(&self, bytes: u64) {
        let all = self.expected.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.set_length(all);
    }

    fn advance(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
        self.line();
    }

    fn skip(&self, bytes: u64) {
        self.skipped.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
    }

    fn done(&self, name: &str) {
        if self.quiet {
            return;
        }
        if self.is_live {
            self.bar.set_message(name.to_owned());
        }
        if self.verbose > 0 {
            self.bar.suspend(|| eprintln!("{:>9} {name}", "done"));
        }
    }

    fn note(&self, message: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{:>9} {message}", "note:"));
        }
    }
}

/// A table with aligned columns, no lines: easy to read, easy to cut.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Rows of a name and a value, aligned.
pub(crate) fn rows(rows: Vec<[String; 2]>) -> String {
    let width = rows.iter().map(|[name, _]| name.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        rows.iter().map(|[name, value]| format!("{name:width$}  {value}")).collect();
    lines.join("\n") + "\n"
}

/// Prints an error: what, and what to do next.
pub(crate) fn error(kind: &str, message: &str, hints: &[String]) {
    if JSON_ERRORS.load(Ordering::Relaxed) {
        let value =
            serde_json::json!({ "error": { "kind": kind, "message": message, "hints": hints } });
        eprintln!("{value}");
        return;
    }
    eprintln!("{} {message}", paint("error:", "1;31"));
    for hint in hints {
        eprintln!("{} {hint}", paint("hint:", "36"));
    }
}

fn paint(text: &str, code: &str) -> String {
    if color() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn color() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
