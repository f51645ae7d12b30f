//! Shows the progress of releases that are being deployed: redrawn in place on a terminal, elsewhere
//! one line for each change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deploy::release::{PendingObject, ProgressWatcher, ReleaseProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use types::foreign_text::clean_text;

use crate::ui::{self, Ui};

/// Without a terminal, an unchanged state is printed again in this interval, so that a log shows that
/// the command still runs.
const AGAIN: Duration = Duration::from_secs(30);
/// The number of pending objects that are shown at once; more would scroll the view away.
const SHOWN: usize = 8;

/// The display of releases in progress.
pub(crate) struct ReleaseProgressView {
    ui: Arc<Ui>,
    bar: ProgressBar,
    is_live: bool,
    said: Mutex<PrintedView>,
}

/// What was printed last, to find out what is new.
#[derive(Default)]
struct PrintedView {
    head: String,
    pending: BTreeMap<String, String>,
    printed_at: Option<Instant>,
}

impl ReleaseProgressView {
    /// Starts the display on standard error.
    pub(crate) fn new(ui: &Arc<Ui>) -> Self {
        let is_live = !ui.is_quiet() && ui::is_stderr_live();
        let target =
            if is_live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        if is_live {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { ui: Arc::clone(ui), bar, is_live, said: Mutex::default() }
    }

    /// Removes the display.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The lines that are new or changed since the last view.
    fn find_changed_lines(&self, view: &ReleaseProgress) -> Vec<String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.printed_at.is_none_or(|at| at.elapsed() > AGAIN);
        let head = format_head(view);
        let mut lines = Vec::new();
        if head != said.head || is_due {
            lines.push(head.clone());
        }
        for one in &view.pending {
            let text = format_with_log(one);
            // A pod's log grows all the time; only a new reason is worth a line.
            let is_new = said.pending.get(&one.object) != Some(&one.why);
            if is_new || is_due {
                lines.push(text);
            }
        }
        if !lines.is_empty() {
            let pending = view.pending.iter().map(|one| (one.object.clone(), one.why.clone()));
            *said =
                PrintedView { head, pending: pending.collect(), printed_at: Some(Instant::now()) };
        }
        lines
    }
}

impl ProgressWatcher for ReleaseProgressView {
    fn show(&self, view: &ReleaseProgress) {
        // In a log every line stays, so only changes are printed.
        if !self.is_live {
            for line in self.find_changed_lines(view) {
                self.ui.print_status(&line);
            }
            return;
        }
        let mut text = format_head(view);
        for one in view.pending.iter().take(SHOWN) {
            let _ = write!(text, "\n    {}", format_with_log(one));
        }
        if view.pending.len() > SHOWN {
            let _ = write!(text, "\n    … and {} more", view.pending.len() - SHOWN);
        }
        self.bar.set_message(clean_text(&text).into_owned());
    }

    fn note(&self, message: &str) {
        self.bar.suspend(|| self.ui.print_status(message));
    }
}

fn format_head(view: &ReleaseProgress) -> String {
    format!("{}: {}, {} of {} ready", view.release, view.doing, view.ready, view.of)
}

fn format_with_log(one: &PendingObject) -> String {
    let mut text = format!("{one}");
    for line in &one.log {
        let _ = write!(text, "\n        | {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ui::{LogSettings, OutputFormat};

    fn make_view(why: &str, log: &[&str]) -> ReleaseProgress {
        let pending = PendingObject {
            object: "Deployment shop/web".into(),
            why: why.into(),
            next: String::new(),
            log: log.iter().map(|line| (*line).to_owned()).collect(),
            is_final: false,
        };
        let (release, doing) = ("shop".to_owned(), "waiting".to_owned());
        ReleaseProgress { release, doing, ready: 1, of: 2, pending: vec![pending] }
    }

    #[test]
    fn a_log_gets_a_line_for_each_change_and_none_for_what_stays() {
        let ui = Arc::new(Ui::new(OutputFormat::Table, true, 0, &LogSettings::default()).unwrap());
        let view = ReleaseProgressView::new(&ui);
        let first = view.find_changed_lines(&make_view("pulling", &[]));
        assert_eq!(first.len(), 2);
        assert_eq!(first[0], "shop: waiting, 1 of 2 ready");
        assert_eq!(view.find_changed_lines(&make_view("pulling", &[])), [""; 0]);
        // A log grows all the time.
        assert_eq!(view.find_changed_lines(&make_view("pulling", &["a", "b"])), [""; 0]);
        let changed = view.find_changed_lines(&make_view("crashed", &["panic"]));
        assert_eq!(changed.len(), 1);
        assert!(changed[0].contains("crashed") && changed[0].contains("| panic"), "{changed:?}");
        let more = ReleaseProgress { ready: 2, pending: vec![], ..make_view("", &[]) };
        assert_eq!(view.find_changed_lines(&more), ["shop: waiting, 2 of 2 ready"]);
    }
}
