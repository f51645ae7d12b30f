//! The live view of releases that come up: drawn anew on a terminal, else a line for each change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deploy::release::{Pending, View, Watch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ui::Ui;

/// Where nobody watches live, what stays the same is said again in this interval.
const AGAIN: Duration = Duration::from_secs(30);
/// Pending objects that are shown at once.
const SHOWN: usize = 8;

/// The view.
pub(crate) struct Live {
    ui: Arc<Ui>,
    bar: ProgressBar,
    is_live: bool,
    said: Mutex<Said>,
}

/// What was said last, for lines.
#[derive(Default)]
struct Said {
    head: String,
    pending: BTreeMap<String, String>,
    at: Option<Instant>,
}

impl Live {
    /// A view on this terminal.
    pub(crate) fn new(ui: &Arc<Ui>) -> Self {
        let is_live = !ui.is_quiet() && std::io::stderr().is_terminal();
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

    /// Takes the view away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// The lines that are new since the last view.
    fn changes(&self, view: &View) -> Vec<String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.at.is_none_or(|at| at.elapsed() > AGAIN);
        let head = head(view);
        let mut lines = Vec::new();
        if head != said.head || is_due {
            lines.push(head.clone());
        }
        for one in &view.pending {
            let text = with_log(one);
            // A log goes on; only another reason is worth a line.
            let is_new = said.pending.get(&one.object) != Some(&one.why);
            if is_new || is_due {
                lines.push(text);
            }
        }
        if !lines.is_empty() {
            let pending = view.pending.iter().map(|one| (one.object.clone(), one.why.clone()));
            *said = Said { head, pending: pending.collect(), at: Some(Instant::now()) };
        }
        lines
    }
}

impl Watch for Live {
    fn show(&self, view: &View) {
        if !self.is_live {
            for line in self.changes(view) {
                self.ui.status(&line);
            }
            return;
        }
        let mut text = head(view);
        for one in view.pending.iter().take(SHOWN) {
            let _ = write!(text, "\n    {}", with_log(one));
        }
        if view.pending.len() > SHOWN {
            let _ = write!(text, "\n    … and {} more", view.pending.len() - SHOWN);
        }
        self.bar.set_message(text);
    }

    fn note(&self, message: &str) {
        self.bar.suspend(|| self.ui.status(message));
    }
}

fn head(view: &View) -> String {
    format!("{}: {}, {} of {} up", view.release, view.doing, view.ready, view.of)
}

fn with_log(one: &Pending) -> String {
    let mut text = format!("{one}");
    for line in &one.log {
        let _ = write!(text, "\n        | {line}");
    }
    text
}
