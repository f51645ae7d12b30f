//! The progress of an operation in bytes: a line that is redrawn on a terminal, elsewhere a line every
//! few seconds; and one line at the end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::truncate_str;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use store::progress::Progress;
use types::ByteSize;
use types::foreign_text::{clean_line, shorten_middle};

use super::terminal::{self, Color};

/// Without a terminal, a line in this interval shows that the work continues: often enough for a
/// person who follows a CI log, rare enough not to fill it.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between two drawings of the line on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// The rate is that of the last seconds, so that it follows the network. Fewer would jump.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// So many notes that say the same of different items are printed; the others are counted.
const NOTES_OF_A_KIND: usize = 3;
/// The width of the bar.
const BAR: usize = 20;
/// The width of a terminal that does not say it.
const USUAL_WIDTH: usize = 80;

/// How much is printed about the progress.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgressDetail {
    /// Nothing (`--quiet`).
    Nothing,
    /// The line of progress, notes and the summary.
    Summary,
    /// Also each finished item (`--verbose`).
    Items,
}

/// The progress of one operation, in bytes.
pub(crate) struct ProgressMeter {
    bar: ProgressBar,
    doing: &'static str,
    is_live: bool,
    detail: ProgressDetail,
    counts: Arc<ProgressCounts>,
    last_line: Mutex<Instant>,
    notes: Mutex<NoteGroups>,
}

/// What is counted. Shared with the thread that draws.
struct ProgressCounts {
    expected: AtomicU64,
    moved: AtomicU64,
    skipped: AtomicU64,
    started: Instant,
    /// When how much had been moved, over the last seconds.
    samples: Mutex<VecDeque<(Instant, u64)>>,
    /// What is being moved, the newest last.
    running: Mutex<Vec<String>>,
}

impl ProgressMeter {
    /// Starts the display. `doing` is its label, at most 9 characters.
    pub(super) fn start(doing: &'static str, detail: ProgressDetail) -> Self {
        // Standard output may be redirected while a person watches, so only standard error counts.
        let is_live = detail != ProgressDetail::Nothing && terminal::is_stderr_live();
        let target =
            if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let counts = Arc::new(ProgressCounts {
            expected: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            started: Instant::now(),
            samples: Mutex::default(),
            running: Mutex::default(),
        });
        if let Ok(style) = ProgressStyle::with_template("{line}") {
            let counts = Arc::clone(&counts);
            let draw = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let width = terminal::find_stderr_width().unwrap_or(USUAL_WIDTH);
                let _ = out.write_str(&counts.view(Instant::now()).format_line(doing, width));
            };
            bar.set_style(style.with_key("line", draw));
        }
        if is_live {
            bar.enable_steady_tick(DRAW_INTERVAL);
        }
        let last_line = Mutex::new(Instant::now());
        Self { bar, doing, is_live, detail, counts, last_line, notes: Mutex::default() }
    }

    /// Removes the line and prints what was transferred.
    pub(crate) fn finish(&self) {
        self.clear();
        if self.detail == ProgressDetail::Nothing {
            return;
        }
        let (moved, skipped) = (self.counts.moved(), self.counts.skipped());
        let seconds = self.counts.started.elapsed().as_secs_f64();
        let there = if skipped > 0 {
            format!(", {} already present", ByteSize(skipped))
        } else {
            String::new()
        };
        let rate = format_rate(find_rate(moved, seconds));
        let line = format!("{:>9} {}{there} in {seconds:.1} s{rate}", self.doing, ByteSize(moved));
        terminal::print_message("", Color::None, &line);
    }

    /// What was there already, in bytes.
    pub(crate) fn skipped_bytes(&self) -> u64 {
        self.counts.skipped()
    }

    /// Removes the line and prints no summary; only how many more notes there were of a kind.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        for line in notes.take_summary() {
            self.print_note(&line);
        }
    }

    fn print_line(&self) {
        if self.is_live || self.detail == ProgressDetail::Nothing {
            return;
        }
        // Another thread is printing the line right now: this one need not wait for it.
        let Ok(mut last) = self.last_line.try_lock() else { return };
        // Called for every chunk of every transfer, so nearly all calls end here.
        if last.elapsed() < LINE_INTERVAL {
            return;
        }
        *last = Instant::now();
        let view = self.counts.view(Instant::now());
        let line = format!(
            "{:>9} {} of {}{}{}",
            self.doing,
            ByteSize(view.done()),
            ByteSize(view.expected),
            format_rate(view.rate),
            format_time_left(view.rate, view.remaining()),
        );
        terminal::print_message("", Color::None, &line);
    }

    /// Hides the line while something else is shown or asked.
    pub(crate) fn hide_while<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }

    fn print_note(&self, message: &str) {
        if self.detail != ProgressDetail::Nothing {
            self.print_above("note:", message);
        }
    }

    /// Prints a line while the drawn one is hidden, which would otherwise be printed over.
    fn print_above(&self, label: &str, message: &str) {
        let line = format!("{label:>9} {message}");
        self.bar.suspend(|| terminal::print_message("", Color::None, &line));
    }
}

impl ProgressCounts {
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// The state at this moment.
    fn view(&self, now: Instant) -> ProgressView {
        let moved = self.moved();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, moved));
        while samples.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            samples.pop_front();
        }
        let (since, before) = match samples.front() {
            Some((at, before)) if samples.len() > 1 && now > *at => (*at, *before),
            _ => (self.started, 0),
        };
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        ProgressView {
            expected: self.expected.load(Ordering::Relaxed),
            moved,
            skipped: self.skipped(),
            rate: find_rate(moved - before, now.duration_since(since).as_secs_f64()),
            current: running.last().cloned(),
            others: running.len().saturating_sub(1),
        }
    }
}

/// Notes by what they say: hundreds of images may have the same note.
#[derive(Default)]
struct NoteGroups {
    /// From the text behind the name to how many notes have it.
    counts: BTreeMap<String, usize>,
}

impl NoteGroups {
    /// Whether a note is one of the first of its kind. The form of a note is `name: what is the matter`.
    fn count_note(&mut self, message: &str) -> bool {
        let (_, kind) = message.split_once(": ").unwrap_or(("", message));
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        *count <= NOTES_OF_A_KIND
    }

    /// A line for each kind that had more notes than were printed.
    fn take_summary(&mut self) -> Vec<String> {
        let counts = std::mem::take(&mut self.counts).into_iter();
        let more = counts.filter(|(_, count)| *count > NOTES_OF_A_KIND);
        more.map(|(kind, count)| {
            format!("{} more (-v lists them): {kind}", count - NOTES_OF_A_KIND)
        })
        .collect()
    }
}

/// The progress at one moment.
struct ProgressView {
    expected: u64,
    moved: u64,
    skipped: u64,
    /// Bytes per second that were moved in the last seconds; what was there already does not count.
    rate: Option<u64>,
    /// What is being moved.
    current: Option<String>,
    /// The number of other things that are being moved.
    others: usize,
}

impl ProgressView {
    fn done(&self) -> u64 {
        self.moved + self.skipped
    }

    fn remaining(&self) -> u64 {
        self.expected.saturating_sub(self.done())
    }

    /// The line on a terminal of this width. It never takes more: a wrapped line could not be removed.
    fn format_line(&self, doing: &str, width: usize) -> String {
        // The last column stays free: many terminals wrap when it is written.
        let width = width.saturating_sub(1);
        let (done, expected) = (self.done(), self.expected);
        let filled = match expected {
            0 => 0,
            expected => {
                BAR * usize::try_from(done.min(expected) * 100 / expected).unwrap_or(0) / 100
            }
        };
        let bar = format!("[{}{}]", "=".repeat(filled), " ".repeat(BAR - filled));
        let mut line = format!("{doing:>9} {bar} {} of {}", ByteSize(done), ByteSize(expected));
        let _ = write!(line, "{}", format_rate(self.rate));
        let _ = write!(line, "{}", format_time_left(self.rate, self.remaining()));
        let room = width.saturating_sub(console::measure_text_width(&line) + 2);
        if let Some(current) = &self.current {
            let others = if self.others > 0 { format!(" +{}", self.others) } else { String::new() };
            let room = room.saturating_sub(others.len());
            // Less than this of a name says nothing.
            if room >= 12 {
                let _ = write!(line, "  {}{others}", shorten_middle(current, room));
            }
        }
        truncate_str(&line, width, "").into_owned()
    }
}

/// Bytes per second; `None` where there is too little to compute it from.
fn find_rate(bytes: u64, seconds: f64) -> Option<u64> {
    // A rate over less than a few reads of the clock would be arbitrary.
    if seconds < 0.05 || bytes == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "only displayed")]
    let rate = (bytes as f64 / seconds) as u64;
    Some(rate)
}

fn format_rate(rate: Option<u64>) -> String {
    rate.map(|rate| format!(", {}/s", ByteSize(rate))).unwrap_or_default()
}

/// The estimated time left as text to append; empty where it is unknown.
fn format_time_left(rate: Option<u64>, remaining: u64) -> String {
    let Some(rate) = rate.filter(|rate| *rate > 0 && remaining > 0) else {
        return String::new();
    };
    let seconds = remaining / rate;
    let time = match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    };
    format!(", about {time} left")
}

impl Progress for ProgressMeter {
    fn expect_bytes(&self, bytes: u64) {
        self.counts.expected.fetch_add(bytes, Ordering::Relaxed);
    }

    fn advance_bytes(&self, bytes: u64) {
        self.counts.moved.fetch_add(bytes, Ordering::Relaxed);
        self.print_line();
    }

    fn skip_bytes(&self, bytes: u64) {
        self.counts.skipped.fetch_add(bytes, Ordering::Relaxed);
    }

    fn start_item(&self, name: &str) {
        let mut running = self.counts.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.push(clean_line(name).into_owned());
    }

    fn end_item(&self, name: &str) {
        let mut running = self.counts.running.lock().unwrap_or_else(PoisonError::into_inner);
        let cleaned = clean_line(name);
        if let Some(at) = running.iter().position(|running| *running == cleaned) {
            running.remove(at);
        }
    }

    fn finish_item(&self, name: &str) {
        if self.detail == ProgressDetail::Items {
            self.print_above("done", name);
        }
    }

    fn add_note(&self, message: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // With --verbose a person looks for one of them.
        if self.detail == ProgressDetail::Items || notes.count_note(message) {
            self.print_note(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn make_view() -> ProgressView {
        ProgressView {
            expected: 100 * MIB,
            moved: 20 * MIB,
            skipped: 30 * MIB,
            rate: Some(5 * MIB),
            current: Some("registry.internal:5000/ai/docker.io/library/nginx:1.25".into()),
            others: 3,
        }
    }

    #[test]
    fn the_line_names_what_moves_and_never_takes_more_than_the_terminal() {
        let line = make_view().format_line("fetch", 120);
        assert_eq!(
            line,
            "    fetch [==========          ] 50.0 MiB of 100.0 MiB, 5.0 MiB/s, about 10 s left  \
             registry.interna…rary/nginx:1.25 +3"
        );
        for width in 0..200 {
            let line = make_view().format_line("fetch", width);
            assert!(console::measure_text_width(&line) < width.max(1), "{width}: {line}");
        }
    }

    #[test]
    fn the_rate_counts_what_moved_and_not_what_was_there() {
        let meter = ProgressMeter::start("fetch", ProgressDetail::Nothing);
        meter.expect_bytes(100 * MIB);
        meter.skip_bytes(60 * MIB);
        meter.advance_bytes(10 * MIB);
        let view = meter.counts.view(meter.counts.started + Duration::from_secs(2));
        assert_eq!(view.rate, Some(5 * MIB));
        assert_eq!(format_time_left(view.rate, view.remaining()), ", about 6 s left");
        // Later, the rate is that of the last seconds.
        meter.advance_bytes(MIB);
        let view = meter.counts.view(meter.counts.started + Duration::from_secs(3));
        assert_eq!(view.rate, Some(MIB));
    }

    #[test]
    fn what_has_ended_is_no_longer_named() {
        let meter = ProgressMeter::start("fetch", ProgressDetail::Nothing);
        for name in ["a", "b\u{1b}", "a"] {
            meter.start_item(name);
        }
        meter.end_item("a");
        meter.end_item("a");
        let view = meter.counts.view(Instant::now());
        assert_eq!((view.current.as_deref(), view.others), (Some("b\\u{1b}"), 0));
    }

    #[test]
    fn notes_of_one_kind_are_counted_after_the_first() {
        let mut notes = NoteGroups::default();
        let images = ["a:1", "b:2", "c:3", "d:4", "e:5"];
        let printed = images.map(|image| notes.count_note(&format!("{image}: no signature")));
        assert_eq!(printed, [true, true, true, false, false]);
        assert!(notes.count_note("a:1: another matter"));
        assert_eq!(notes.take_summary(), ["2 more (-v lists them): no signature"]);
    }

    #[test]
    fn a_rate_and_a_time_are_shown_only_where_there_is_enough_to_compute_them_from() {
        assert_eq!(format_rate(find_rate(10 * MIB, 2.0)), ", 5.0 MiB/s");
        assert_eq!(find_rate(10 * MIB, 0.01), None);
        assert_eq!(find_rate(0, 10.0), None);
        assert_eq!(format_time_left(Some(10), 7 * 3600 * 10), ", about 7 h 0 min left");
        assert_eq!(format_time_left(None, 1000), "");
        assert_eq!(format_time_left(Some(10), 0), "");
    }
}
